"""From a configuration to a HuBERT of our own, which is how the bundled teacher was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.demo import PHONES, phone_frames
from speechdistill.audio.table import Table
from speechdistill.checkpoints.pretrained import save_pretrained
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.frames import num_frames
from speechdistill.training.job import Job
from speechdistill.training.masked_units import MaskedUnitsModule


def masked_units(config: dict[str, Any], data: SpeechData) -> Job:
    """A HuBERT from scratch, units = the synthesiser's frame-aligned phones."""
    from transformers import HubertConfig, HubertModel

    if any(phones is None for phones in data.table.labels.get("phones", [None])):
        raise UserError(f"recipe={config['recipe']} needs frame-aligned phones, which only data=demo has.")
    encoder_config = HubertConfig(
        **config["architecture"],
        layerdrop=0.0,
        final_dropout=0.0,
        apply_spec_augment=False,
        vocab_size=len(PHONES),
    )
    encoder = HubertModel(encoder_config)

    def units(table: Table) -> list[Any]:
        return [
            phone_frames(phones, num_frames(int(samples)))
            for phones, samples in zip(table.labels["phones"], table.num_samples, strict=True)
        ]

    module = MaskedUnitsModule(
        encoder,
        {"train": units(data.train_table), "val": units(data.val_table)},
        len(PHONES),
        config["objective"],
        config["optim"],
        config["trainer"]["max_steps"],
        config["seed"],
    )

    def save(out_dir: Path, summary: Mapping[str, Any]) -> None:
        # Half precision halves the file; load_teacher computes in whatever precision it is asked for.
        saved = HubertModel(encoder_config)
        saved.load_state_dict(encoder.state_dict())
        save_pretrained(out_dir / "teacher", saved.half())

    about = {
        "teacher": None,
        "student": {
            "params": num_params(encoder),
            "macs_per_second": macs_per_second(lambda waveforms: encoder.eval()(waveforms)),
        },
    }
    encoder.train()
    lines = [f"encoder  {num_params(encoder) / 1e6:.2f} M parameters, {len(PHONES)} units: the synthesiser's phones"]
    return Job(module, about, lines, save)
