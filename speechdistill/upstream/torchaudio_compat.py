"""What s3prl 0.4.18 expects of its libraries and today's lack; `install()` puts it in place before s3prl is imported.

Only names that are missing are added, in this process alone. Two exceptions, because their stock forms cannot serve
s3prl: torchaudio's load and save (without torchcodec they raise) and huggingface_hub's snapshot_download.
"""

import argparse
import functools
import sys
from types import ModuleType
from typing import Any

import torch
import torchaudio

from speechdistill.errors import UserError
from speechdistill.upstream import absent_packages, audio_files, hub_compat, sox_effects


@functools.cache
def install() -> None:
    """Add everything; a second call does nothing.

    Raises:
        UserError: s3prl was imported before, and failed half-way.
    """
    refuse_half_imported()
    _add_to_torchaudio(torchaudio)
    hub_compat.install()
    absent_packages.install()
    # run_downstream's checkpoints hold their command line; it is plain data.
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        import pandas
    except ImportError:  # without the extra there is no s3prl to help either
        return
    _add(pandas.Series, "iteritems", pandas.Series.items)


def refuse_half_imported() -> None:
    """Raise UserError if an import of s3prl.hub has failed in this process: what it left is not to be built on."""
    begun = any(name.startswith("s3prl.") and name.endswith(".hubconf") for name in sys.modules)
    if begun and "s3prl.hub" not in sys.modules:
        raise UserError(
            "s3prl was imported before speechdistill.upstream and failed half-way: start Python again and put "
            "`import speechdistill.upstream` in front of the first import of s3prl."
        )


def _add_to_torchaudio(module: Any) -> None:
    # These chose between libraries; there is one left.
    _add(module, "set_audio_backend", lambda backend: None)
    _add(module, "get_audio_backend", lambda: "soundfile")
    _add(module, "list_audio_backends", lambda: ["soundfile"])
    _add(module, "AudioMetaData", audio_files.AudioMetaData)
    _add(module, "info", audio_files.info)
    module.load = audio_files.load
    module.save = audio_files.save
    if not hasattr(module, "sox_effects"):
        effects: Any = ModuleType("torchaudio.sox_effects", sox_effects.__doc__)
        effects.apply_effects_tensor = sox_effects.apply_effects_tensor
        effects.apply_effects_file = sox_effects.apply_effects_file
        effects.effect_names = sox_effects.effect_names
        module.sox_effects = effects
        # `from torchaudio.sox_effects import ...` looks here.
        sys.modules["torchaudio.sox_effects"] = effects


def _add(owner: Any, name: str, value: Any) -> None:
    if not hasattr(owner, name):
        setattr(owner, name, value)
