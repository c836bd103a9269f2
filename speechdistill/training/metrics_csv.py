"""metrics.csv: one row for each logged step, also after a resume."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from speechdistill.whole_file import whole_file

_FIRST_COLUMNS = ["step", "epoch", "train/loss"]


class MetricsCsv(Logger):
    """Keeps rows by step, joins what is logged for one step, and appends to the file.

    Lightning's CSVLogger deletes the file of an earlier start and gives training and validation a row each.

    Args:
        path: the file. Rows that stand in it are kept, up to `resume_step`.
        resume_step: the step that the run goes on from; rows behind it are cut off.
    """

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self.columns = list(_FIRST_COLUMNS)
        self.rows: dict[int, dict[str, Any]] = {}
        if path.is_file():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or _FIRST_COLUMNS)
                # A row without all its fields was cut off when the machine went down: its step may be, too.
                whole = [row for row in reader if None not in row.values() and row["step"].isdigit()]
                kept = [row for row in whole if int(row["step"]) <= resume_step]
            self.rows = {int(row["step"]): row for row in kept}
            self._rewrite()
        self._pending: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "metrics"

    @property
    def version(self) -> int:
        """Lightning asks for it."""
        return 0

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the row of a step; the row before it is complete and written."""
        assert step is not None
        if self._pending and self._pending["step"] != step:
            self.save()
        self._pending = self._pending or {"step": step}
        self._pending.update({name: value for name, value in metrics.items() if name != "step"})

    @rank_zero_only
    def save(self) -> None:
        """Write the row in hand."""
        if not self._pending:
            return
        row, self._pending = self._pending, {}
        joined = {**self.rows.get(row["step"], {}), **row}
        known_step = row["step"] in self.rows
        self.rows[row["step"]] = joined
        new = sorted(set(joined) - set(self.columns))
        self.columns += new
        if new or known_step or not self.path.is_file():
            self._rewrite()
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(joined)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing may be left in hand."""
        self.save()

    @rank_zero_only
    def _rewrite(self) -> None:
        """The whole file anew, because a column came or rows went."""
        with whole_file(self.path) as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows[step] for step in sorted(self.rows))
