"""n-gram language models of words in ARPA's text format, as KenLM and SRILM write them."""

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from speechdistill.errors import UserError

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
_LN_10 = math.log(10)

Context = tuple[str, ...]


class ArpaModel:
    """Back-off n-grams (Katz): log P(w | context) = log P(context w), or log backoff(context) + log P(w | shorter).

    All of it is held in memory, about 200 bytes for each n-gram: pruned models (LibriSpeech's 3-gram.pruned.1e-7, a
    million n-grams) fit, a full 4-gram does not.

    Attributes:
        order: words of the longest n-gram.

    Args:
        path: .arpa or .arpa.gz.

    Raises:
        UserError: it is none, or ends early.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        self._log_probs: dict[Context, float] = {}
        self._backoffs: dict[Context, float] = {}
        try:
            with _opened(self._path) as file:
                self.order = self._read(file)
        except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
            raise UserError(
                f"lm={path} cannot be read: {error}. Give a language model of words in ARPA's text format (.arpa, "
                ".arpa.gz); KenLM's binary files have to be kept as ARPA, too."
            ) from error
        # The spelling of the unknown word differs between tools.
        self._unknown = next((word for word in (UNKNOWN, "<UNK>") if (word,) in self._log_probs), None)

    def __contains__(self, word: str) -> bool:
        return (word,) in self._log_probs

    def __len__(self) -> int:
        return len(self._log_probs)

    def words(self) -> Iterator[str]:
        """All that have a probability of their own."""
        return (gram[0] for gram in self._log_probs if len(gram) == 1)

    def start(self) -> Context:
        """The context at the beginning of a sentence."""
        return (START,)[: self.order - 1]

    def score(self, word: str, context: Context, unknown_log_prob: float) -> tuple[float, Context]:
        """Natural log of P(word | context), and the context of the next word.

        Args:
            word: the word; `</s>` for the end.
            context: what `start` or the last call gave.
            unknown_log_prob: natural log of the probability of a word that the model has not, where it has no <unk>.
        """
        known = (word,) in self._log_probs
        if not known and self._unknown is None:
            return unknown_log_prob, ()
        name = word if known else self._unknown
        assert name is not None
        log_prob, history = 0.0, context
        while (*history, name) not in self._log_probs:
            log_prob += self._backoffs.get(history, 0.0)
            history = history[1:]
        log_prob += self._log_probs[*history, name]
        longest = (*context, name)[-(self.order - 1) :] if self.order > 1 else ()
        return log_prob * _LN_10, longest

    def _read(self, file: IO[str]) -> int:
        """The n-grams of a file; returns its order."""
        lines = (line.rstrip("\n\r") for line in file)
        counts = _header(lines)
        for length in sorted(counts):
            if next((line for line in lines if line.strip()), "").strip() != f"\\{length}-grams:":
                raise ValueError(f"there is no section of {length}-grams")
            for _ in range(counts[length]):
                fields = next(lines, "").split()
                if len(fields) not in (length + 1, length + 2):
                    raise ValueError(f"the section of {length}-grams ends early")
                words = tuple(fields[1 : length + 1])
                self._log_probs[words] = float(fields[0])
                if len(fields) > length + 1:
                    self._backoffs[words] = float(fields[-1])
        return max(counts)


def _header(lines: Iterator[str]) -> dict[int, int]:
    counts: dict[int, int] = {}
    if not any(line.strip() == "\\data\\" for line in lines):
        raise ValueError("no line says \\data\\")
    for line in lines:
        if not line.strip():
            break
        length, _, count = line.removeprefix("ngram ").partition("=")
        counts[int(length)] = int(count)
    if not counts:
        raise ValueError("it names no n-grams")
    return counts


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
