"""Search a supernet, or rank students: `python -m speechdistill.search supernet=DIR max_params=27e6`."""

import sys

from speechdistill import cli
from speechdistill.compose import configure


def main(words: list[str]) -> int:
    """Search for the best subnet under a budget, or rank `students=[...]`.

    Raises:
        UserError: what a person can put right.
    """
    # Words are checked before the libraries that take seconds to load.
    config = configure("search", words)
    from speechdistill.searching.job import run_search

    return run_search(config)


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
