"""What happens to files on the way to a person: bits that flip, ends that are missing, parts twice, sizes that lie."""

from collections.abc import Callable, Sequence

import numpy as np

from speechdistill.errors import UserError

_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# A header stands at the front, and most of what can go wrong with it.
_HEADER_BYTES = 256


def check_message(error: UserError) -> None:
    """Make sure that it tells something, and no more than a person would read."""
    text = str(error)
    assert text.strip(), "an empty message"
    assert "Traceback" not in text
    assert len(text) < 4000, f"{len(text)} characters: {text[:500]}"


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to three mutations; a file that lost nothing also occurs."""
    for _ in range(int(rng.integers(0, 4))):
        content = _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](content, rng)
    return content


def mutated_text(text: str, tokens: Sequence[str], rng: np.random.Generator) -> bytes:
    """A list or a configuration with lines lost, doubled or moved, values replaced by `tokens`, and other encodings."""
    lines = text.splitlines(keepends=True)
    for _ in range(int(rng.integers(0, 4))):
        if not lines:
            break
        row, kind = int(rng.integers(len(lines))), int(rng.integers(6))
        if kind == 0:
            del lines[row]
        elif kind == 1:
            lines.insert(row, lines[row])
        elif kind == 2:
            lines[row] = lines[row].rstrip("\n")
        elif kind == 3:
            lines.insert(row, tokens[int(rng.integers(len(tokens)))] + "\n")
        else:
            lines[row] = _with_token(lines[row], tokens[int(rng.integers(len(tokens)))], rng)
    changed = "".join(lines)
    encoding = int(rng.integers(12))
    if encoding == 0:
        return b"\xef\xbb\xbf" + changed.encode()
    if encoding == 1:
        return changed.encode("utf-16")
    if encoding == 2:
        return changed.replace("\n", "\r\n").encode()
    if encoding == 3:
        return mutated(changed.encode(), rng)
    return changed.encode()


def _with_token(line: str, token: str, rng: np.random.Generator) -> str:
    """One value of a line, between the signs that part values, replaced."""
    ends = [index for index, sign in enumerate(line) if sign in ',:\t" {}\n|']
    if len(ends) < 2:
        return token + "\n"
    first = int(rng.integers(len(ends) - 1))
    return line[: ends[first] + 1] + token + line[ends[first + 1] :]


def _flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for place in rng.integers(0, max(1, len(data)), size=int(rng.integers(1, 9))):
        if data:
            data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _flip_header(content: bytes, rng: np.random.Generator) -> bytes:
    return _flip_bits(content[:_HEADER_BYTES], rng) + content[_HEADER_BYTES:]


def _set_number(content: bytes, rng: np.random.Generator) -> bytes:
    """A number in the header that is as small or as large as it can be."""
    width, order = int(rng.choice([1, 2, 4])), "little" if rng.integers(2) else "big"
    place = int(rng.integers(0, max(1, min(len(content), _HEADER_BYTES) - width)))
    number = _EXTREME[int(rng.integers(len(_EXTREME)))] & ((1 << 8 * width) - 1)
    return content[:place] + number.to_bytes(width, order) + content[place + width :]  # type: ignore[arg-type]


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(0, len(content) + 1))]


def _cut_a_little(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: max(0, len(content) - int(rng.integers(1, 64)))]


def _lose_front(content: bytes, rng: np.random.Generator) -> bytes:
    return content[int(rng.integers(0, 64)) :]


def _lose_middle(content: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(0, len(content) + 1, size=2))
    return content[:first] + content[last:]


def _double_middle(content: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(0, len(content) + 1, size=2))
    return content[:last] + content[first:]


def _zero_middle(content: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(rng.integers(0, len(content) + 1, size=2))
    return content[:first] + bytes(last - first) + content[last:]


def _prepend(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 64))) + content


def _append(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 4096)))


_MUTATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    *(_flip_bits, _flip_header, _flip_header, _set_number, _set_number, _cut, _cut_a_little),
    *(_lose_front, _lose_middle, _double_middle, _zero_middle, _prepend, _append),
)
