"""The compression that a configuration names: one of the package's, or one of the user's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from speechdistill.compression.compression import Compression
from speechdistill.compression.pruning import Pruning
from speechdistill.errors import UserError
from speechdistill.own_code import own_target
from speechdistill.settings.compression import compression_mistakes
from speechdistill.settings.schema import refuse

COMPRESSIONS: Mapping[str, type[Compression]] = {"pruning": Pruning}


def build_compression(config: Any, import_from: Sequence[str] = ()) -> Compression | None:
    """Make the compression that a configuration names.

    Args:
        config: {name: NAME, ARGUMENT: VALUE} of COMPRESSIONS; {_target_: MODULE.CLASS, ARGUMENT: VALUE}; None = none.
        import_from: folders with modules of the user's own.

    Raises:
        UserError: it names something else.
    """
    if config is None:
        return None
    if isinstance(config, Mapping) and "name" in config:
        refuse(compression_mistakes(config))
        arguments = dict(config)
        return COMPRESSIONS[arguments.pop("name")](**arguments)
    if (target := own_target("compression", config)) is None:
        known = ", ".join(COMPRESSIONS)
        raise UserError(
            f"compression={config}: give {{name: NAME, ...}} ({known}), {{_target_: MODULE.CLASS, ...}}, or null."
        )
    made = target.make(import_from)
    if not isinstance(made, Compression):
        raise UserError(f"{target.key}={target} is no Compression: derive its class from speechdistill.Compression.")
    for name in ("attach", "resolve"):
        if getattr(type(made), name) is getattr(Compression, name):
            raise UserError(f"{target.key}={target} has no {name}(student), which a Compression must have.")
    return made
