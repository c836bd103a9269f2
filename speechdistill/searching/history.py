"""All that a search has tried, a line of a CSV each, on the disk before the next one begins: the search's state."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechdistill.errors import UserError
from speechdistill.models.search_space import SearchSpace, Subnet

COLUMNS = (
    *("number", "origin", "hidden_size", "depth", "num_attention_heads", "ffn_ratio"),
    *("params", "macs_per_second", "latency_ms", "loss"),
)


@dataclass(frozen=True)
class Trial:
    """A subnet that was tried.

    Attributes:
        origin: where it comes from: a name, "random", "mutation", "crossover" or "shrunk".
        subnet: its sizes.
        params: parameters.
        macs_per_second: multiply-accumulates for each second of audio.
        latency_ms: of one pass.
        loss: on the validation batches; None = too slow for the budget, not validated.
    """

    origin: str
    subnet: Subnet
    params: int
    macs_per_second: int
    latency_ms: float
    loss: float | None


def append(path: Path, number: int, trial: Trial) -> None:
    """Add a line, and a first one with names to a new file; returns when it is on the disk."""
    subnet = trial.subnet
    sizes = (" ".join(map(str, subnet.num_attention_heads)), " ".join(map(str, subnet.ffn_ratios)))
    costs = (trial.params, trial.macs_per_second, repr(trial.latency_ms))
    row = (number, trial.origin, subnet.hidden_size, subnet.depth, *sizes, *costs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if number == 0:
        writer.writerow(COLUMNS)
    writer.writerow((*row, "" if trial.loss is None else repr(trial.loss)))
    with path.open("a", encoding="utf-8") as file:
        file.write(text.getvalue())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, space: SearchSpace) -> list[Trial]:
    """Read what was tried; a last line that a kill cut off goes, also from the file.

    Args:
        path: of the file, which need not exist.
        space: that the subnets come from.

    Raises:
        UserError: a line that no search has written.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    rows = list(csv.reader(io.StringIO(whole.decode("utf-8"))))
    if rows and rows[0] != list(COLUMNS):
        raise UserError(f"{path}: its first line is not that of a search. Begin a new search.")
    trials: list[Trial] = []
    for row in rows[1:]:
        try:
            trials.append(_trial(row, len(trials), space))
        except (ValueError, UserError) as error:
            raise UserError(f"{path}, line {len(trials) + 2} is not what this search has written: {error}") from error
    if not trials:
        path.unlink()  # the names alone, from a kill within the first line
    return trials


def _trial(row: Sequence[str], number: int, space: SearchSpace) -> Trial:
    written, origin, width, _, heads, ratios, params, macs, latency_ms, loss = row
    if int(written) != number:
        raise ValueError(f"number {written}, where {number} is due")
    subnet = Subnet(int(width), tuple(map(int, heads.split())), tuple(map(float, ratios.split())))
    space.check(subnet)
    return Trial(origin, subnet, int(params), int(macs), float(latency_ms), float(loss) if loss else None)
