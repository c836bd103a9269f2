"""What a recogniser can stand on: a student, any Hugging Face encoder, or plain log-mel features."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

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
from speechdistill.models.student import StudentModel

# From features (B, T, C) and real frames (B,) to features of which parts are hidden.
Mask = Callable[[Tensor, Tensor], Tensor]

_NUM_MELS = 80
# Quieter than the last bit of 16-bit audio.
_FLOOR = 1e-10


class States(NamedTuple):
    """What an encoder makes of a batch.

    Attributes:
        hidden: (B, T, D) each: the last hidden state alone, or all of them, layer 0 to L.
        num_frames: (B,) real frames in each row.
    """

    hidden: list[Tensor]
    num_frames: Tensor


class StudentStates(nn.Module):
    """A student. Masks hide conv features, in front of the projection, so that it needs no mask embedding."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = StudentModel(StudentConfig.from_dict(dict(config)))
        self.conv_stack = self.model.config.conv_stack
        self.num_states = self.model.config.num_hidden_layers + 1
        self.hidden_size: int = self.model.config.hidden_size
        self.sees_padding = self.model.config.feature_norm == "group"

    @property
    def feature_encoder(self) -> nn.Module:
        """The convolutions."""
        return self.model.feature_encoder

    def forward(self, waveforms: Tensor, num_samples: Tensor | None, all_layers: bool, mask: Mask | None) -> States:
        """Encode (B, S) waveforms with (B,) lengths, None = no row is padded."""
        features = self.model.convolve(waveforms, num_samples)
        real = _real_frames(waveforms, num_samples, self.conv_stack)
        if mask is not None:
            features = mask(features, real)
        layers = range(self.num_states) if all_layers else ()
        encoded = self.model.encode(waveforms, num_samples, layers, features=features)
        return States(list(encoded.hidden_states.values()) if all_layers else [encoded.last_hidden_state], real)


class TransformersStates(nn.Module):
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

    @property
    def feature_encoder(self) -> nn.Module:
        """The convolutions."""
        return self.model.feature_extractor

    def forward(self, waveforms: Tensor, num_samples: Tensor | None, all_layers: bool, mask: Mask | None) -> States:
        """Encode (B, S) waveforms with (B,) lengths, None = no row is padded."""
        real = _real_frames(waveforms, num_samples, self.conv_stack)
        if not self.sees_padding:  # layer-norm front ends were pre-trained on normalised waveforms
            waveforms = normalize_waveforms(waveforms, num_samples)
        attention_mask = None if num_samples is None else (~padding_mask(num_samples, waveforms.shape[1])).long()
        hooks = []
        if mask is not None:

            def hide(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
                return mask(output.transpose(1, 2), real).transpose(1, 2)

            hooks.append(self.model.feature_extractor.register_forward_hook(hide))
        try:
            output = self.model(waveforms, attention_mask=attention_mask, output_hidden_states=all_layers)
        finally:
            for hook in hooks:
                hook.remove()
        return States(list(output.hidden_states) if all_layers else [output.last_hidden_state], real)


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

    def forward(self, waveforms: Tensor, num_samples: Tensor | None, all_layers: bool, mask: Mask | None) -> States:
        """Encode (B, S) waveforms with (B,) lengths, None = no row is padded."""
        with torch.autocast(waveforms.device.type, enabled=False):
            window = torch.hann_window(FRAME_WINDOW_SAMPLES, device=waveforms.device)
            spectrum = torch.stft(
                waveforms.float(), FRAME_WINDOW_SAMPLES, FRAME_STRIDE_SAMPLES, window=window, center=False,
                return_complex=True,
            )  # fmt: skip
            mels = torch.einsum("bft,fm->btm", spectrum.abs().square(), _mel_bands(waveforms.device))
            features = (mels + _FLOOR).log()
        real = _real_frames(waveforms, num_samples, self.conv_stack)
        visible = ~padding_mask(real, features.shape[1])[..., None]
        count = real[:, None, None]
        features = (features - (features * visible).sum(1, keepdim=True) / count) * visible
        features = features / ((features.square().sum(1, keepdim=True) / count).sqrt() + 1e-5)
        return States([features if mask is None else mask(features, real)], real)


@lru_cache(maxsize=8)
def _mel_bands(device: torch.device) -> Tensor:
    bins = FRAME_WINDOW_SAMPLES // 2 + 1
    with torch.inference_mode(False), torch.device("cpu"):
        bands = torchaudio.functional.melscale_fbanks(bins, 20.0, SAMPLE_RATE_HZ / 2, _NUM_MELS, SAMPLE_RATE_HZ)
    return bands.to(device)


def _real_frames(waveforms: Tensor, num_samples: Tensor | None, conv_stack: Any) -> Tensor:
    if num_samples is None:
        num_samples = torch.full(waveforms.shape[:1], waveforms.shape[1], device=waveforms.device)
    return num_frames(num_samples.to(waveforms.device), conv_stack)


ENCODERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "student": StudentStates,
    "transformers": TransformersStates,
    "fbank": lambda config: LogMel(),
}


class LinearHead(nn.Module):
    """Dropout and a linear map, as wav2vec 2.0 is fine-tuned."""

    def __init__(self, input_size: int, vocab_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(input_size, vocab_size)

    def forward(self, hidden: Tensor, num_frames: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, V) logits."""
        return self.output(self.dropout(hidden))


class RecurrentHead(nn.Module):
    """Linear map, layers of bidirectional LSTM with dropout behind each, linear map: SUPERB's recogniser.

    SUPERB (arXiv:2105.01051) has two layers of 1024 and a dropout of 0.2. Computes in float32 whatever surrounds it.

    Args:
        input_size: width of the frames.
        vocab_size: units, with the blank.
        size: width of the projection, and of the LSTM in each direction.
        num_layers: of LSTM.
        dropout: behind each of them.
    """

    def __init__(self, input_size: int, vocab_size: int, size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.projection = nn.Linear(input_size, size)
        widths = [size] + [2 * size] * (num_layers - 1)
        # Two LSTMs for each layer, in place of a bidirectional one: that would need packed sequences to begin at each
        # row's own last frame, which take six times as long on a CPU.
        self.ahead = nn.ModuleList(nn.LSTM(width, size, batch_first=True) for width in widths)
        self.back = nn.ModuleList(nn.LSTM(width, size, batch_first=True) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * size, vocab_size)

    def forward(self, hidden: Tensor, num_frames: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, V) logits; what stands behind a row's last frame has no say in them."""
        order = _backwards(num_frames, hidden.shape[1])[..., None]
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = self.projection(hidden.float())
            for ahead, back in zip(self.ahead, self.back, strict=True):
                turned, _ = back(hidden.gather(1, order.expand_as(hidden)))
                straight, _ = ahead(hidden)
                hidden = self.dropout(torch.cat([straight, turned.gather(1, order.expand_as(turned))], dim=-1))
            return self.output(hidden)


def _backwards(num_frames: Tensor, size: int) -> Tensor:
    """(B, T) places of frames when each row's real ones are read backwards; padding stays where it is."""
    places = torch.arange(size, device=num_frames.device)[None]
    last = num_frames[:, None] - 1
    return torch.where(places <= last, last - places, places)
