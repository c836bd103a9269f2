"""What turns an encoder's frames into scores of units."""

import torch
from torch import Tensor, nn


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
