"""A model's folder as transformers reads it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor
from transformers.utils import logging as transformers_logging

from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.whole_file import give_usual_mode


def save_pretrained(folder: Path, model: PreTrainedModel, do_normalize: bool = False) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json, with the modes that the umask leaves.

    Args:
        folder: where.
        model: what is saved.
        do_normalize: whether whoever prepares waveforms has to normalise them; students of ours do it themselves.
    """
    with no_bars():
        model.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        give_usual_mode(path)
    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE_HZ, do_normalize=do_normalize, return_attention_mask=True
    ).save_pretrained(folder)


@contextmanager
def no_bars() -> Iterator[None]:
    """Without transformers' progress bars."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
