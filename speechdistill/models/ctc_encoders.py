"""What a recogniser can stand on: a student, any Hugging Face encoder, or plain log-mel features."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from speechdistill.frames import (
    FRAME_STRIDE_SAMPLES,
    FRAME_WINDOW_SAMPLES,
    HUBERT_CONV_STACK,
    SAMPLE_RATE_HZ,
    num_frames,
    padding_mask,
)
from speechdistill.models.config import StudentConfig
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.models.recording_norms import (
    Moments,
    RecordingStatistics,
    convolved_moments,
    fixed_norm,
    moments,
    normalized,
)
from speechdistill.models.student import StudentModel

# From features (B, T, C) and real frames (B,) to features of which parts are hidden.
Mask = Callable[[Tensor, Tensor], Tensor]

_NUM_MELS = 80
# Quieter than the last bit of 16-bit audio.
_FLOOR = 1e-10


class States(NamedTuple):
    """What an encoder makes of a batch.

    Attributes:
        last: (B, T, D) last hidden state, after the final norm of a pre-norm encoder.
        hidden: (B, T, D) each: all hidden states, layer 0 to L, if asked for.
        num_frames: (B,) real frames in each row.
    """

    last: Tensor
    hidden: tuple[Tensor, ...]
    num_frames: Tensor


class _Encoder(nn.Module):
    """What the encoders share: how the norms of a long recording are measured.

    Attributes:
        normalizes: whether waveforms are normalised.
        sees_padding: whether a group norm runs over time, behind the first convolution.
    """

    normalizes: bool
    sees_padding: bool
    feature_encoder: Any

    @property
    def first_convolution(self) -> Any:
        """The layer that a group norm is part of."""
        encoder: Any = self.feature_encoder
        return encoder.conv_layers[0]

    def measure(self, blocks: Iterable[np.ndarray], device: Any) -> RecordingStatistics | None:
        """What the norms over time have to know of a recording; None = there are none.

        Args:
            blocks: (S,) float32 each, consecutive parts of it; gone through once for each of the two norms.
            device: that of the encoder.
        """
        waveform = channels = None
        if self.normalizes:
            waveform = moments(blocks, 1, 1, lambda samples: samples[:, None], device)
        if self.sees_padding:
            channels = convolved_moments(blocks, self.first_convolution.conv, waveform, device)
        return RecordingStatistics(waveform, channels) if self.normalizes or self.sees_padding else None


class StudentStates(_Encoder):
    """A student. Masks hide conv features, in front of the projection, so that it needs no mask embedding."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = StudentModel(StudentConfig.from_dict(dict(config)))
        self.conv_stack = self.model.config.conv_stack
        self.num_states = self.model.config.num_hidden_layers + 1
        self.hidden_size: int = self.model.config.hidden_size
        self.sees_padding = self.model.config.feature_norm == "group"
        self.normalizes = self.model.config.normalize_waveforms

    @property
    def feature_encoder(self) -> nn.Module:
        """The convolutions."""
        return self.model.feature_encoder

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None,
        all_layers: bool,
        mask: Mask | None,
        of: RecordingStatistics | None = None,
    ) -> States:
        """Encode (B, S) waveforms with (B,) lengths, None = no row is padded; `of` is what `measure` gave."""
        if of is None:
            features = self.model.convolve(waveforms, num_samples)
        else:
            with fixed_norm(self.first_convolution, of.channels):
                features = self.feature_encoder(_normalized(waveforms, of.waveform)).transpose(1, 2)
        real = _real_frames(waveforms, num_samples, self.conv_stack)
        if mask is not None:
            features = mask(features, real)
        layers = range(self.num_states) if all_layers else ()
        encoded = self.model.encode(waveforms, num_samples, layers, features=features)
        return States(encoded.last_hidden_state, tuple(encoded.hidden_states.values()), real)


class TransformersStates(_Encoder):
    """An encoder of transformers', made trainable; without layer-drop and without its own masks."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        settings = {**config, "layerdrop": 0.0, "apply_spec_augment": False}
        self.model: Any = AutoModel.from_config(AutoConfig.for_model(**settings))
        own = self.model.config
        self.conv_stack = tuple(zip(own.conv_kernel, own.conv_stride, strict=True))
        self.num_states = own.num_hidden_layers + 1
        self.hidden_size: int = own.hidden_size
        # data2vec-audio names no norm: it has layer norms.
        self.sees_padding = getattr(own, "feat_extract_norm", "layer") == "group"
        self.normalizes = not self.sees_padding  # layer-norm front ends were pre-trained on normalised waveforms

    @property
    def feature_encoder(self) -> nn.Module:
        """The convolutions."""
        return self.model.feature_extractor

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None,
        all_layers: bool,
        mask: Mask | None,
        of: RecordingStatistics | None = None,
    ) -> States:
        """Encode (B, S) waveforms with (B,) lengths, None = no row is padded; `of` is what `measure` gave."""
        real = _real_frames(waveforms, num_samples, self.conv_stack)
        if of is not None:
            waveforms = _normalized(waveforms, of.waveform)
        elif self.normalizes:
            waveforms = normalize_waveforms(waveforms, num_samples)
        attention_mask = None if num_samples is None else (~padding_mask(num_samples, waveforms.shape[1])).long()
        hooks = []
        if mask is not None:

            def hide(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
                return mask(output.transpose(1, 2), real).transpose(1, 2)

            hooks.append(self.model.feature_extractor.register_forward_hook(hide))
        try:
            with fixed_norm(self.first_convolution, None if of is None else of.channels):
                output = self.model(waveforms, attention_mask=attention_mask, output_hidden_states=all_layers)
        finally:
            for hook in hooks:
                hook.remove()
        return States(output.last_hidden_state, tuple(output.hidden_states or ()), real)


class LogMel(nn.Module):
    """The baseline beneath all encoders: 80 log-mel bands, each with zero mean and unit variance over the recording.

    Frame t is made of the samples 320 t to 320 t + 400, as an encoder's frames are. Nothing in it is learned.
    """

    conv_stack = HUBERT_CONV_STACK
    num_states = 1
    hidden_size = _NUM_MELS
    sees_padding = False

    @property
    def feature_encoder(self) -> nn.Module:
        """Nothing that could be frozen."""
        return nn.Identity()

    def measure(self, blocks: Iterable[np.ndarray], device: Any) -> RecordingStatistics:
        """Mean and variance of each band over a recording, given in consecutive parts (S,)."""

        def bands(samples: Tensor) -> Tensor:
            return _log_mels(samples).transpose(1, 2)

        return RecordingStatistics(channels=moments(blocks, FRAME_WINDOW_SAMPLES, FRAME_STRIDE_SAMPLES, bands, device))

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None,
        all_layers: bool,
        mask: Mask | None,
        of: RecordingStatistics | None = None,
    ) -> States:
        """Encode (B, S) waveforms with (B,) lengths, None = no row is padded; `of` is what `measure` gave."""
        features = _log_mels(waveforms)
        real = _real_frames(waveforms, num_samples, self.conv_stack)
        visible = ~padding_mask(real, features.shape[1])[..., None]
        if of is not None and of.channels is not None:
            mean, deviation = of.channels.mean, of.channels.variance.sqrt()
        else:
            count = real[:, None, None]
            mean = (features * visible).sum(1, keepdim=True) / count
            deviation = (((features - mean) * visible).square().sum(1, keepdim=True) / count).sqrt()
        features = (features - mean) * visible / (deviation + 1e-5)
        features = features if mask is None else mask(features, real)
        return States(features, (features,) if all_layers else (), real)


def _log_mels(waveforms: Tensor) -> Tensor:
    """(B, S) waveforms to (B, T, 80)."""
    with torch.autocast(waveforms.device.type, enabled=False):
        window = torch.hann_window(FRAME_WINDOW_SAMPLES, device=waveforms.device)
        spectrum = torch.stft(
            waveforms.float(), FRAME_WINDOW_SAMPLES, FRAME_STRIDE_SAMPLES, window=window, center=False,
            return_complex=True,
        )  # fmt: skip
        mels = torch.einsum("bft,fm->btm", spectrum.abs().square(), _mel_bands(waveforms.device))
        return (mels + _FLOOR).log()


@lru_cache(maxsize=8)
def _mel_bands(device: torch.device) -> Tensor:
    bins = FRAME_WINDOW_SAMPLES // 2 + 1
    with torch.inference_mode(False), torch.device("cpu"):
        bands = torchaudio.functional.melscale_fbanks(bins, 20.0, SAMPLE_RATE_HZ / 2, _NUM_MELS, SAMPLE_RATE_HZ)
    return bands.to(device)


def _normalized(waveforms: Tensor, of: Moments | None) -> Tensor:
    return waveforms if of is None else normalized(waveforms, of)


def _real_frames(waveforms: Tensor, num_samples: Tensor | None, conv_stack: Any) -> Tensor:
    if num_samples is None:
        num_samples = torch.full(waveforms.shape[:1], waveforms.shape[1], device=waveforms.device)
    return num_frames(num_samples.to(waveforms.device), conv_stack)


ENCODERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "student": StudentStates,
    "transformers": TransformersStates,
    "fbank": lambda config: LogMel(),
}
