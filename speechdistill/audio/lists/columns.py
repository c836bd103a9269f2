"""What the columns of a list mean. Tools name the same thing differently: another name is taught here."""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from speechdistill.errors import UserError

# The file, spelled without "_" and capitals. The second row counts only where no name of the first is there.
_PATHS = (
    (
        *("path", "audiofilepath", "audiopath", "wavpath", "filepath", "audiofile", "wavfile", "wavfilename"),
        *("audiofilename", "audio", "wav"),
    ),
    ("file", "filename"),
)
# Where in the file a recording lies, with units and words that say nothing left away: "Begin Time (s)", seg_start_ms.
_ROLES = {
    "start": ("start", "begin", "beginning", "beg", "onset", "offset", "xmin", "tmin"),
    "end": ("end", "stop", "xmax", "tmax"),
    "duration": ("duration", "dur"),
    "length": ("length", "len"),  # seconds only beside a start: other lists count samples or words so
}
_SECONDS = {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0} | dict.fromkeys(
    ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 1e-3
)
_COUNTED = ("sample", "samples", "frame", "frames")  # of a rate that the list does not say
_FILLERS = ("time", "timestamp", "segment", "seg", "utterance", "utt", "clip", "audio", "in", "at", "t")
# What labels say, in the order of preference, spelled like paths.
TEXT = ("text", "transcript", "transcription", "sentence", "normalizedtext")
SPEAKER = ("speaker", "speakerid", "spk", "spkid", "clientid")
_MEANINGS = (TEXT, SPEAKER)

_MOST_SECONDS = 1e9  # thirty years, whose samples fit every column of numbers
_SLACK_SECONDS = 0.02  # lists round


class Span(NamedTuple):
    """A part of a file in seconds; None = not said: from its beginning, to its end."""

    start: float | None
    seconds: float | None


class _Time(NamedTuple):
    column: str
    unit: float  # in seconds; 0 = it counts samples or frames


class Columns(NamedTuple):
    """The columns of a list by what they say; each of a kind, in the order of preference.

    Attributes:
        paths: name the file.
        starts: say where in it the recording begins.
        ends: where it ends.
        durations: how long it is.
        splits: train, val or test.
        labels: all others.
    """

    paths: tuple[str, ...]
    starts: tuple[_Time, ...]
    ends: tuple[_Time, ...]
    durations: tuple[_Time, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def have_places(self) -> bool:
        """Whether recordings may be parts of files."""
        return bool(self.starts or self.ends)


def plain(name: str) -> str:
    """A column's name without capitals, blanks and signs: "startTime" and "Start time" are "start_time"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\W_]+", "_", words).strip("_").casefold()


def columns_saying(meaning: Sequence[str], names: Iterable[str]) -> list[str]:
    """The columns that say one thing, in the order of preference.

    Args:
        meaning: TEXT or SPEAKER.
        names: of all columns.
    """
    spelled = [(_spelled(name), name) for name in names]
    return [name for alias in meaning for spelling, name in spelled if spelling == alias]


def column_called(asked: str, names: Collection[str]) -> str | None:
    """The column that a word asks for: the one of this name, or else one that says the same; None = there is none."""
    if asked in names:
        return asked
    meaning = next((one for one in _MEANINGS if _spelled(asked) in one), (_spelled(asked),))
    return next(iter(columns_saying(meaning, names)), None)


def _spelled(name: str) -> str:
    return plain(name).replace("_", "")


@lru_cache(1000)
def columns_of(names: tuple[str, ...]) -> Columns:
    """Sort the columns of a list, or the keys of one line, by what they say."""
    spelled = {name: _spelled(name) for name in names}
    paths: tuple[str, ...] = ()
    for row in _PATHS:
        paths = paths or tuple(name for alias in row for name in names if spelled[name] == alias)
    times: dict[str, list[_Time]] = {role: [] for role in _ROLES}
    for name in names:
        if (found := _time(plain(name))) is not None and name not in paths:
            times[found[0]].append(_Time(name, found[1]))
    starts, ends, durations = times["start"], times["end"], times["duration"]
    if any("onset" in plain(time.column) for time in starts):  # lists of sound events say onset and offset
        ends += [time for time in starts if "offset" in plain(time.column)]
        starts = [time for time in starts if time not in ends]
    if starts and not durations:
        durations = times["length"]
    if not starts and not ends:
        durations = [time for time in durations if time.unit]
    splits = tuple(name for name in names if plain(name) == "split")
    used = {*paths, *splits, *(time.column for time in (*starts, *ends, *durations))}
    labels = tuple(name for name in names if name not in used)
    return Columns(paths, tuple(starts), tuple(ends), tuple(durations), splits, labels)


def _pattern() -> re.Pattern[str]:
    def any_of(words: Sequence[str]) -> str:
        return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"

    roles = "|".join(f"(?P<{role}>{any_of(words)})" for role, words in _ROLES.items())
    long_units = [unit for unit in _SECONDS if unit != "s"]  # "ends" is no unit, "end_s" is
    unit = f"(?:_?(?P<unit>{any_of(long_units)})|_(?P<s>s)|_?(?P<counted>{any_of(_COUNTED)}))"
    filler = any_of(_FILLERS)
    return re.compile(f"(?:(?P<first>{any_of(_COUNTED)})_?)?(?:{filler}_?)*(?:{roles})(?:_?{filler})*{unit}?")


_TIME = _pattern()


def _time(name: str) -> tuple[str, float] | None:
    """What a column says of a time, and in which unit."""
    found = _TIME.fullmatch(name)
    if found is None:
        return None
    role = next(role for role in _ROLES if found[role])
    return role, 0.0 if found["first"] or found["counted"] else _SECONDS[found["unit"] or "s"]


def agreed(
    content: Mapping[str, Any], columns: Sequence[str], where: str, same: Callable[[Any, Any], bool] = operator.eq
) -> Any:
    """The one value of several columns that mean the same; None where all are empty.

    Args:
        content: a line, by column.
        columns: in the order of preference.
        where: the list and the line, for messages.
        same: tells whether two values are one.

    Raises:
        UserError: two of them differ.
    """
    first: str | None = None
    for column in columns:
        if content.get(column) in (None, ""):
            continue
        if first is None:
            first = column
        elif not same(content[first], content[column]):
            one, other = (f"{name}={str(content[name])[:200]}" for name in (first, column))
            raise UserError(
                f"{where}: {one} and {other} mean the same and differ. Take one of the two columns out of the list, or "
                "give it another name."
            )
    return None if first is None else content[first]


def span_of(content: Mapping[str, Any], columns: Columns, where: str) -> Span:
    """Which part of its file a line names.

    Raises:
        UserError: a time that is no number of seconds, or times that do not fit together.
    """
    start, end, duration = (
        _one_time(content, times, where) for times in (columns.starts, columns.ends, columns.durations)
    )
    if end is None:
        return Span(start, duration)
    length = end - (start or 0.0)
    if length < 0 or (duration is not None and abs(length - duration) > _SLACK_SECONDS):
        times = (*columns.starts, *columns.ends, *columns.durations)
        shown = [f"{column}={content[column]}" for column, _ in times if content.get(column) is not None]
        raise UserError(
            f"{where}: {', '.join(shown)} do not fit together: a recording ends after its start, and its duration is "
            "from the one to the other. Correct them, or take out the column that says something else."
        )
    return Span(start or 0.0, length)


def _one_time(content: Mapping[str, Any], times: Sequence[_Time], where: str) -> float | None:
    if not times:
        return None
    values = {time.column: _seconds(content.get(time.column), time, where) for time in times}
    if len(values) == 1:
        return values[times[0].column]
    return agreed(values, tuple(values), where, lambda one, other: abs(one - other) <= _SLACK_SECONDS)


def _seconds(value: Any, time: _Time, where: str) -> float | None:
    if value in (None, ""):
        return None
    if not time.unit:
        raise UserError(
            f"{where}: {time.column} counts samples or frames. Say it in seconds, in columns start and duration."
        )
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value) * time.unit
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SECONDS:
        unit = "seconds" if time.unit == 1 else "milliseconds"
        raise UserError(
            f"{where}: {time.column}={str(value)[:40]}; give {unit} from 0 to {_MOST_SECONDS / time.unit:g}, or "
            "another name to a column that is none of when the recording begins, ends or how long it is."
        )
    return seconds
