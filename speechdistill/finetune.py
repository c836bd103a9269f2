"""Fine-tune: `python -m speechdistill.finetune task=asr student=DIR [KEY=VALUE ...]`."""

import sys
from functools import partial

from speechdistill import cli
from speechdistill.compose import configure, sizes_of


def main(words: list[str]) -> int:
    """Run the training that a task describes; 0, or 128 + the signal that stopped it.

    Raises:
        UserError: what a person can put right.
    """
    # Words are checked before the libraries that take seconds to load.
    config = configure("finetune", words)
    from speechdistill.training.methods import METHODS, TABLES
    from speechdistill.training.runs import run_training

    return run_training(
        config, METHODS[config["method"]], TABLES.get(config["method"]), partial(sizes_of, "finetune", words)
    )


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
