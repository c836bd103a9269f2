"""Masked unit prediction (HuBERT, Hsu et al., 2021, arXiv:2106.07447): how the bundled teacher is pre-trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import resample
from transformers import HubertModel

from speechdistill.batch import WaveBatch, send
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_STRIDE_SAMPLES, FRAME_WINDOW_SAMPLES, num_frames
from speechdistill.objectives.inputs import span_mask
from speechdistill.training.module import TrainingModule


class UnitPredictor(nn.Module):
    """Hugging Face's HuBERT and a linear classifier of units on its last hidden state.

    Args:
        encoder: without its own masking (apply_spec_augment False): masks are given.
        num_units: classes.
    """

    def __init__(self, encoder: HubertModel, num_units: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.config.hidden_size, num_units)

    def forward(self, waveforms: Tensor, masked: Tensor | None) -> Tensor:
        """Classify frames.

        Args:
            waveforms: (B, S).
            masked: (B, T) bool, frames that the Transformer does not get to see.

        Returns:
            (B, T, units) logits.
        """
        encoder = self.encoder
        features = encoder.feature_projection(encoder.feature_extractor(waveforms).transpose(1, 2))
        if masked is not None:
            features = torch.where(masked[..., None], encoder.masked_spec_embed.to(features.dtype), features)
        return self.classifier(encoder.encoder(features).last_hidden_state)


class MaskedUnitsModule(TrainingModule):
    """Cross-entropy of the unit of each frame, on masked and on visible frames.

    HuBERT counts masked frames only (unmasked_weight 0). With labels as good as the synthesiser's own phones and a
    corpus of hours, not hundreds of hours, visible frames teach most: see recipes/hubert_mini.

    Args:
        encoder: Hugging Face's HuBERT.
        units: for each row of the training and the validation table, the unit of each of its frames (int64).
        num_units: classes.
        masking: `probability`, `length`, `masked_weight`, `unmasked_weight`, `speeds` (configs/objective).
        optim: see TrainingModule.
        max_steps: see TrainingModule.
        seed: see TrainingModule.
    """

    def __init__(
        self,
        encoder: HubertModel,
        units: Mapping[str, Sequence[np.ndarray]],
        num_units: int,
        masking: Mapping[str, Any],
        optim: Mapping[str, Any],
        max_steps: int,
        seed: int,
    ) -> None:
        super().__init__(UnitPredictor(encoder, num_units), optim, max_steps, seed)
        self.encoder_config: Any = encoder.config
        self.units = units
        self.masking = dict(masking)

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Cross-entropy of a batch without padding, and the share of frames that are classified wrongly."""
        if batch.is_padded:
            raise UserError("masked unit prediction takes batches without padding: data.batching=crop.")
        waveforms, percent = batch.waveforms, 100
        if self.training:
            slowest, fastest = (round(100 * speed) for speed in self.masking["speeds"])
            percent = int(torch.randint(slowest, fastest + 1, (), generator=generator))
            waveforms = resample(waveforms, percent, 100)
        config = self.encoder_config
        conv_stack = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        size = num_frames(waveforms.shape[1], conv_stack)
        lengths = torch.full(waveforms.shape[:1], size)
        target = send(self._targets(batch, size, percent / 100), waveforms.device)
        masking = self.masking
        masked = span_mask(lengths, size, masking["probability"], int(masking["length"]), generator)
        masked = send(masked, target.device)
        logits = self.model(waveforms, masked)
        cross_entropy = F.cross_entropy(logits.float().transpose(1, 2), target, reduction="none")
        weights = torch.where(masked, masking["masked_weight"], masking["unmasked_weight"])
        total = (cross_entropy * weights).sum() / weights.sum()
        wrong = (logits.argmax(-1) != target).float()
        parts = {
            "error_masked": (wrong * masked).sum() / masked.sum(),
            "error_visible": (wrong * ~masked).sum() / (~masked).sum().clamp(min=1),
        }
        return total, parts, lengths.sum()

    def _targets(self, batch: WaveBatch, size: int, speed: float) -> Tensor:
        """(B, T) units of a batch that is played at another speed: each frame has that of the time at its centre."""
        units = self.units["train" if self.training else "val"]
        middle = FRAME_WINDOW_SAMPLES / 2
        places = (((np.arange(size) * FRAME_STRIDE_SAMPLES + middle) * speed - middle) / FRAME_STRIDE_SAMPLES).round()
        target = torch.zeros(len(batch.rows), size, dtype=torch.int64)
        for number, (row, first) in enumerate(zip(batch.rows.tolist(), batch.first_samples.tolist(), strict=True)):
            frames = first // FRAME_STRIDE_SAMPLES + places.astype(np.int64)
            target[number] = torch.from_numpy(units[row][frames.clip(0, len(units[row]) - 1)])
        return target
