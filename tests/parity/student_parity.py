"""What the comparisons of the student with other people's models share: tiny sizes, random weights, ragged batches."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.frames import num_frames
from speechdistill.models.config import StudentConfig, uniform_layers

CONV_LAYERS = [[32, 10, 5], *[[32, 3, 2]] * 4, *[[32, 2, 2]] * 2]
HIDDEN_SIZE, HEADS, INTERMEDIATE_SIZE, LAYERS = 48, 4, 96, 3
KERNEL_SIZE, GROUPS = 16, 4
TOLERANCE = 1e-5
RAGGED = [9000, 16240, 4321]


def tiny_config(**changes: Any) -> StudentConfig:
    """Make the tiny student that every comparison uses."""
    sizes: dict[str, Any] = {
        "conv_layers": CONV_LAYERS,
        "hidden_size": HIDDEN_SIZE,
        "layers": uniform_layers(LAYERS, HEADS, HIDDEN_SIZE // HEADS, INTERMEDIATE_SIZE),
        "positional_convolution": {"kernel_size": KERNEL_SIZE, "groups": GROUPS, "depth": 1},
    }
    return StudentConfig(**{**sizes, **changes})


def randomise(model: nn.Module, seed: int = 1) -> None:
    """Draw every parameter anew, norms and biases too: at 1 and 0 they would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            scale = parameter.std() if parameter.numel() > 1 and parameter.std() > 0 else 0.3
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if is_norm else scale * noise)


def ragged_batch(lengths: Iterable[int] = RAGGED, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Make (B, S) waveforms, zeros behind each row's end, and (B,) lengths."""
    lengths = torch.tensor(list(lengths))
    waveforms = torch.randn(len(lengths), int(lengths.max()), generator=torch.Generator().manual_seed(seed)) * 0.3
    return waveforms * (torch.arange(waveforms.shape[1]) < lengths[:, None]), lengths


def largest_difference(ours: Tensor, theirs: Tensor, num_samples: Tensor) -> float:
    """Compare (B, T, D) tensors on the real frames of each row."""
    assert ours.shape == theirs.shape
    rows = zip(ours, theirs, num_frames(num_samples).tolist(), strict=True)
    return max((a[:frames] - b[:frames]).abs().max().item() for a, b, frames in rows)
