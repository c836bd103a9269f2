"""Train: `python -m speechdistill.train recipe=distilhubert [KEY=VALUE ...]`."""

import sys
from functools import partial

from speechdistill import cli
from speechdistill.compose import configure, sizes_of
from speechdistill.errors import UserError
from speechdistill.own_code import own_distances


def main(words: list[str]) -> int:
    """Run the training that a recipe describes; 0, or 128 + the signal that stopped it.

    Raises:
        UserError: what a person can put right.
    """
    # Words are checked before the libraries that take seconds to load.
    config = configure("train", words)
    if own := list(own_distances(config["objective"])):
        from speechdistill.objectives.own_distance import OwnDistance

        for target in own:  # there or not, before a corpus is measured
            OwnDistance(target, config["import_from"])
    from speechdistill.training.methods import METHODS, TABLES
    from speechdistill.training.runs import run_training

    method = config["method"]
    if method == "once_for_all":
        raise UserError(
            "method=once_for_all was that of an earlier version, whose runs cannot be resumed. Begin a new run with "
            "recipe=lighthubert and student.init_from=DIR, the folder of the old one."
        )
    if method not in tuple(METHODS):
        raise UserError(f"method={method}: a recipe trains by one of {', '.join(METHODS)}.")
    return run_training(config, METHODS[method], TABLES.get(method), partial(sizes_of, "train", words))


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
