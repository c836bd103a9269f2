"""Words with times as subtitles (SRT) or JSON."""

import json
from collections.abc import Sequence

from speechdistill.recognition.greedy import Word
from speechdistill.recognition.recognizer import Transcript

# A subtitle ends at a pause, or where it would grow too long to be read.
_PAUSE_SECONDS, _LONGEST_SECONDS, _MOST_CHARACTERS = 0.8, 6.0, 84


def as_srt(transcript: Transcript) -> str:
    """Numbered subtitles, a blank line behind each."""
    lines = []
    for number, words in enumerate(_subtitles(transcript.words), start=1):
        times = f"{_clock(words[0].start_seconds)} --> {_clock(words[-1].end_seconds)}"
        lines.append(f"{number}\n{times}\n{' '.join(word.text for word in words)}\n\n")
    return "".join(lines)


def as_json(transcript: Transcript) -> str:
    """{"text", "words": [{"text", "start_seconds", "end_seconds"}]}."""
    content = {"text": transcript.text, "words": [word._asdict() for word in transcript.words]}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _subtitles(words: Sequence[Word]) -> list[list[Word]]:
    found: list[list[Word]] = []
    for word in words:
        current = found[-1] if found else []
        fits = (
            bool(current)
            and word.start_seconds - current[-1].end_seconds < _PAUSE_SECONDS
            and word.end_seconds - current[0].start_seconds <= _LONGEST_SECONDS
            and sum(len(one.text) + 1 for one in current) + len(word.text) <= _MOST_CHARACTERS
        )
        if fits:
            current.append(word)
        else:
            found.append([word])
    return found


def _clock(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"
