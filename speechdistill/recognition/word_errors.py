"""Word and character error rates with jiwer, their confidence interval, and which words are confused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechdistill.bootstrap import rate_interval
from speechdistill.errors import UserError


@dataclass(frozen=True)
class Errors:
    """Errors of each utterance of a set.

    Attributes:
        words, word_errors: (utterances,) words of the references; substitutions, deletions and insertions.
        characters, character_errors: the same of characters, spaces between words included.
        confusions: ((reference word or "", hypothesis word or ""), how often), most frequent first; "" where a word
            was left out or put in.
    """

    words: np.ndarray
    word_errors: np.ndarray
    characters: np.ndarray
    character_errors: np.ndarray
    confusions: list[tuple[tuple[str, str], int]]

    @property
    def wer(self) -> float:
        """Word errors for each word of the references; may exceed 1."""
        return float(self.word_errors.sum() / self.words.sum())

    @property
    def cer(self) -> float:
        """Character errors for each character of the references."""
        return float(self.character_errors.sum() / self.characters.sum())

    def wer_interval(self, seed: int = 0, speakers: Sequence[str] | None = None) -> tuple[float, float]:
        """95 % interval of the word error rate over utterances, or over speakers where they are known.

        Args:
            seed: of the samples.
            speakers: (utterances,) who said each; see `rate_interval`.
        """
        return rate_interval(self.word_errors, self.words, speakers, seed)


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    """Align hypotheses with references, at the least edit distance.

    Args:
        references: what was said, normalised. Where that is nothing, what was heard was put in.
        hypotheses: what was recognised.

    Raises:
        UserError: jiwer is not installed.
        ValueError: the numbers differ.
    """
    jiwer = _jiwer()
    # Words are what spaces divide; nothing else is done to either side.
    references, hypotheses = ([" ".join(text.split()) for text in texts] for texts in (references, hypotheses))
    words = jiwer.process_words(list(references), list(hypotheses))
    characters = jiwer.process_characters(list(references), list(hypotheses))
    confusions: Counter[tuple[str, str]] = Counter()
    for said, heard, chunks in zip(words.references, words.hypotheses, words.alignments, strict=True):
        for chunk in chunks:
            if chunk.type != "equal":
                ours = said[chunk.ref_start_idx : chunk.ref_end_idx] or [""] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
                theirs = heard[chunk.hyp_start_idx : chunk.hyp_end_idx] or [""] * len(ours)
                confusions.update(zip(ours, theirs, strict=True))
    ranked = sorted(confusions.items(), key=lambda item: (-item[1], item[0]))
    return Errors(
        np.array([len(said) for said in words.references]),
        _edits(words),
        np.array([len(said) for said in characters.references]),
        _edits(characters),
        ranked,
    )


def _edits(output: Any) -> np.ndarray:
    """Edits of each utterance: a chunk that is not equal takes as many as its longer side."""
    return np.array(
        [
            sum(
                max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                for chunk in chunks
                if chunk.type != "equal"
            )
            for chunks in output.alignments
        ]
    )


def _jiwer() -> Any:
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise UserError("error rates are counted by jiwer: pip install 'speechdistill[asr]'.") from error
    return jiwer
