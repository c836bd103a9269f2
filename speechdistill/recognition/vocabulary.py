"""Units of text: characters and the word boundary, or sentencepiece's; unit 0 is the blank of CTC."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from speechdistill.errors import UserError

BLANK, UNKNOWN = "<pad>", "<unk>"  # as transformers' Wav2Vec2CTCTokenizer calls them
BOUNDARY = "|"  # the space, in files
CASES = ("upper", "lower", "keep")


def normalize_text(text: str, case: str) -> str:
    """Bring text to the form that is learned and counted: NFC, one case, single spaces. Nothing is left out.

    NFC writes a letter with its accent as one character, however a file wrote it.

    Args:
        text: a transcript.
        case: "upper", "lower" or "keep".
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.upper() if case == "upper" else text.lower() if case == "lower" else text


class Vocabulary:
    """Units in the order of their numbers; text is their concatenation, a word begins behind a space.

    Attributes:
        units: strings; the blank is number 0, what no unit covers is number 1.
        sentencepiece: its model, where it splits text into the units; None = one unit for each character.

    Args:
        units: without blank and unknown.
        sentencepiece: serialized model.
    """

    def __init__(self, units: Sequence[str], sentencepiece: bytes | None = None) -> None:
        self.units = [BLANK, UNKNOWN, *units]
        self.sentencepiece = sentencepiece
        self._numbers = {unit: number for number, unit in enumerate(self.units)}
        self._processor = _load_sentencepiece(sentencepiece) if sentencepiece else None

    def __len__(self) -> int:
        return len(self.units)

    def encode(self, text: str) -> list[int]:
        """Numbers of the units of a text; 1 for what there is no unit for."""
        pieces: Iterable[str] = text
        if self._processor is not None:
            pieces = [piece.replace("▁", " ") for piece in self._processor.encode(text, out_type=str)]
        return [self._numbers.get(piece, 1) for piece in pieces]

    def decode(self, numbers: Iterable[int]) -> str:
        """Text of units; blanks are left out."""
        return "".join(self.units[number] for number in numbers if number).strip()

    def unknown_in(self, texts: Iterable[str]) -> Counter[str]:
        """Characters that no unit covers, with how often they stand in the texts."""
        known = set("".join(self.units[2:]))
        return Counter(character for text in texts for character in text if character not in known)

    def to_json(self) -> dict[str, int]:
        """What vocab.json holds: the number of each unit, the space written as a bar."""
        return {BOUNDARY if unit == " " else unit: number for unit, number in self._numbers.items()}

    @classmethod
    def of_characters(cls, texts: Iterable[str]) -> "Vocabulary":
        """The characters of the training text, in the order of Unicode, the word boundary first."""
        characters = set().union(*map(set, texts)) - {" "}
        _check_boundary(characters)
        return cls([" ", *sorted(characters)])

    @classmethod
    def of_sentencepiece(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        """Unigram units of sentencepiece's, learned from the training text; fewer where the text has not so many.

        Its own normalisation (NFKC and more) is off: units cover the text as it is learned and counted.
        """
        import io

        library = _sentencepiece_library()
        texts = list(texts)
        _check_boundary(set().union(*map(set, texts)))
        model = io.BytesIO()
        try:
            library.SentencePieceTrainer.train(
                sentence_iterator=iter(texts), model_writer=model, vocab_size=size, character_coverage=1.0,
                hard_vocab_limit=False, normalization_rule_name="identity",
                num_threads=1, minloglevel=2, bos_id=-1, eos_id=-1,
            )  # fmt: skip
        except RuntimeError as error:
            raise UserError(f"task.num_units={size}: sentencepiece says: {str(error).splitlines()[0]}") from error
        processor = _load_sentencepiece(model.getvalue())
        pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
        return cls([piece.replace("▁", " ") for piece in pieces if piece != UNKNOWN], model.getvalue())

    @classmethod
    def from_file(cls, path: str | Path) -> "Vocabulary":
        """Read a vocab.json, or a text file with a unit on each line (`|` or nothing else than a space = the space).

        Raises:
            UserError: it cannot be read, has no units, units twice, or no word boundary.
        """
        path = Path(path).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".json":
                numbers: dict[str, Any] = json.loads(text)
                units = sorted(numbers, key=lambda unit: int(numbers[unit]))
            else:
                units = [line for line in text.splitlines() if line]
        except (OSError, UnicodeDecodeError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no vocabulary ({error}): give a vocab.json, or a unit on each line.") from error
        special = {BLANK, UNKNOWN, "<s>", "</s>"}
        units = [" " if unit == BOUNDARY else unit for unit in units if unit not in special]
        if not units or len(set(units)) != len(units):
            raise UserError(f"{path} has {'units twice' if units else 'no units'}.")
        if not any(" " in unit for unit in units):
            raise UserError(
                f"{path} has no word boundary: all text would be one word. Give {BOUNDARY!r} (the space) a line or a "
                "number of its own."
            )
        processor = path.with_name("sentencepiece.model")
        return cls(units, processor.read_bytes() if processor.is_file() else None)


def _check_boundary(characters: set[str]) -> None:
    if BOUNDARY in characters:
        raise UserError(f"the training text holds {BOUNDARY!r}, which marks word boundaries in vocab.json: remove it.")


def _sentencepiece_library() -> Any:
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise UserError("units of sentencepiece need it: pip install 'speechdistill[asr]'.") from error
    return sentencepiece


def _load_sentencepiece(model: bytes) -> Any:
    return _sentencepiece_library().SentencePieceProcessor(model_proto=model)
