"""Search a supernet, or rank students: `python -m speechdistill.search supernet=DIR max_params=27e6`."""

import sys
from collections.abc import Sequence

from speechdistill import cli
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.words import quoted


def main(words: list[str]) -> int:
    """Search for the best subnet under a budget, or rank `students=[...]`.

    Raises:
        UserError: what a person can put right.
    """
    # Words are checked before the libraries that take seconds to load.
    config = configure("search", _sorted(words))
    from speechdistill.searching.job import run_search

    return run_search(config)


def _sorted(words: Sequence[str]) -> list[str]:
    """Replace student=DIR: a supernet is searched, students are ranked.

    Raises:
        UserError: it stands beside a key that says the same.
    """
    given = [word.partition("=")[2] for word in words if word.startswith("student=")]
    rest = [word for word in words if not word.startswith("student=")]
    if not given or cli.asks_for_help(words):
        return rest
    if any(word.startswith("students=") for word in rest):
        raise UserError("student= and students= name the same: give student=DIR for each, or students=[DIR,DIR].")
    from speechdistill.checkpoints.student_dir import is_supernet

    if len(given) == 1 and is_supernet(given[0]):
        if any(word.startswith("supernet=") for word in rest):
            raise UserError(f"student={given[0]} is a supernet, and supernet= is given too: give one of them.")
        return [*rest, f"supernet={given[0]}"]
    return [*rest, f"students=[{','.join(map(quoted, given))}]"]


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
