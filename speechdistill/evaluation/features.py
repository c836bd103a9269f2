"""Features of one recording, layer by layer: the hidden states of an encoder, or MFCCs as the floor beneath them.

A recording goes through the encoder alone and unpadded. The group norm of HuBERT Base's front end takes its
statistics over time, padding included, so that features from a padded batch would depend on their neighbours.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.tar_member import TarMember
from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_STRIDE_SAMPLES, FRAME_WINDOW_SAMPLES, SAMPLE_RATE_HZ
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.teachers.load import Teacher

# From a waveform (S,) to one (T, D) for each layer, 0 to L; MFCCs are a single layer.
Features = Callable[[Tensor], list[Tensor]]

_NUM_MFCC = 13
_NUM_MELS = 23


def mfcc_features(normalize: bool) -> Features:
    """39 MFCC features on the frames of HuBERT: frame t is made of samples 320 t to 320 t + 400.

    13 coefficients of 23 mel bands with their first and second differences (over five frames). One layer, (T, 39).

    Args:
        normalize: bring each feature to zero mean and unit variance over the recording. Takes the speaker and the
            channel away, which helps to tell phones; an average over the recording would then be nothing at all.
    """
    transform = torchaudio.transforms.MFCC(
        SAMPLE_RATE_HZ,
        n_mfcc=_NUM_MFCC,
        log_mels=True,
        melkwargs={
            "n_fft": FRAME_WINDOW_SAMPLES,
            "hop_length": FRAME_STRIDE_SAMPLES,
            "n_mels": _NUM_MELS,
            "center": False,
        },
    )

    def features(waveform: Tensor) -> list[Tensor]:
        coefficients = transform(_long_enough(waveform))
        first = torchaudio.functional.compute_deltas(coefficients)
        second = torchaudio.functional.compute_deltas(first)
        frames = torch.cat([coefficients, first, second]).T
        if normalize:
            frames = (frames - frames.mean(0)) / (frames.std(0, correction=0) + 1e-5)
        return [frames]

    return features


def encoder_features(model: StudentModel | Teacher) -> Features:
    """Hidden states 0 to L of an encoder; a clip shorter than one frame is filled up with zeros to a whole one."""
    model.eval()

    @torch.inference_mode()
    def features(waveform: Tensor) -> list[Tensor]:
        waveforms = _long_enough(waveform)[None]
        if isinstance(model, StudentModel):
            hidden = model.encode(waveforms, layers=range(model.config.num_hidden_layers + 1)).hidden_states
        else:
            row = torch.zeros(1, dtype=torch.int64)
            batch = WaveBatch(waveforms, row + waveforms.shape[1], row, row, is_padded=False)
            hidden = model(batch).tensors["hidden"]
        return [hidden[layer][0] for layer in sorted(hidden)]

    return features


def head_features(model: StudentForDistillation) -> Features:
    """Hidden states 0 to L of a student, then the predictions of its heads, ascending by teacher layer.

    This is what s3prl's DistilHuBERT upstream shows to a downstream task.
    """
    model.eval()

    @torch.inference_mode()
    def features(waveform: Tensor) -> list[Tensor]:
        output = model(_long_enough(waveform)[None], layers=range(model.config.num_hidden_layers + 1))
        states = list(output.hidden_states.values())
        frames = states[0].shape[1]
        predictions = [output.predictions[layer] for layer in sorted(output.predictions)]
        return [state[0] for state in [*states, *(_held(prediction, frames) for prediction in predictions)]]

    return features


def read_recording(path: Path | TarMember, first_sample: int = 0, num_samples: int | None = None) -> Tensor:
    """Read a recording, or a part of one counted at 16 kHz; (S,) at 16 kHz.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return torch.from_numpy(read_waveform(path, first_sample, num_samples))
    except UnreadableAudioError as error:
        raise UserError(f"{path} cannot be read: {error}. Repair it, or take it out of the table.") from error


def _held(prediction: Tensor, frames: int) -> Tensor:
    """Repeat the last frame where heads behind a time reduction predict fewer than there are: (B, P, D), (B, T, D)."""
    missing = prediction[:, -1:].expand(-1, frames - prediction.shape[1], -1)
    return torch.cat([prediction, missing], dim=1)


def _long_enough(waveform: Tensor) -> Tensor:
    return F.pad(waveform, (0, max(0, FRAME_WINDOW_SAMPLES - len(waveform))))
