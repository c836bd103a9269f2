"""s3prl's tables with words that stay words: pandas takes NA, null and None for missing and 007 for 7."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas

# Of all tables of all tasks; the other columns are words.
NUMBERS = ("start_sec", "end_sec", "duration")


@contextmanager
def words_stay_words() -> Iterator[None]:
    """Make pandas.read_csv, which s3prl calls everywhere, read every column but those of numbers as it is written."""
    stock = pandas.read_csv

    def read_csv(path: Any, *arguments: Any, **options: Any) -> Any:
        table = stock(path, *arguments, **{"dtype": str, "keep_default_na": False, **options})
        for name in NUMBERS:
            if name in table.columns:
                table[name] = pandas.to_numeric(table[name])  # an empty field is NaN: from the beginning, to the end
        return table

    pandas.read_csv = read_csv
    try:
        yield
    finally:
        pandas.read_csv = stock
