"""CTC (Graves et al., ICML 2006): the LightningModule of speech recognition."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from speechdistill.batch import WaveBatch
from speechdistill.models.ctc import StudentForCTC
from speechdistill.models.ctc_encoders import Mask
from speechdistill.objectives.inputs import span_mask
from speechdistill.recognition.advice import ONLY_BLANKS
from speechdistill.recognition.greedy import collapse
from speechdistill.recognition.vocabulary import Vocabulary
from speechdistill.recognition.word_errors import count_errors
from speechdistill.training.module import TrainingModule


class CTCModule(TrainingModule):
    """A recogniser learns to write down what is said.

    The loss is -log P(text | audio) in nats for each frame, so that it weighs the same however a step is divided;
    fairseq's is for each utterance, which is another factor on a gradient that Adam does not see. Validation takes
    utterances one at a time, because a group norm would see the padding of a batch; training, as everywhere, pads
    batches of neighbours in length.

    Args:
        model: what is trained.
        vocabulary: its units.
        texts: for each row of the training and the validation table what is said, normalised.
        task: `masks`, `freeze_encoder_steps` (configs/task).
        optim: `lr`, `betas`, `eps`, `weight_decay`, `phases`, `first_lr_share`, `last_lr_share` (configs/optim).
        max_steps: see TrainingModule.
        seed: see TrainingModule.
    """

    chosen_by = "val/wer"

    def __init__(
        self,
        model: StudentForCTC,
        vocabulary: Vocabulary,
        texts: Mapping[str, Sequence[str]],
        task: Mapping[str, Any],
        optim: Mapping[str, Any],
        max_steps: int,
        seed: int,
    ) -> None:
        super().__init__(model, optim, max_steps, seed)
        self.vocabulary = vocabulary
        self.texts = texts
        self.units = {split: [vocabulary.encode(text) for text in lines] for split, lines in texts.items()}
        self.masks = dict(task["masks"])
        self.freeze_encoder_steps = int(task["freeze_encoder_steps"])

    @property
    def recognizer(self) -> StudentForCTC:
        """The model, by its own type."""
        assert isinstance(self.model, StudentForCTC)
        return self.model

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """CTC of a batch; in validation also its word errors."""
        if not self.training:
            return self._validated(batch)
        learns = step >= self.freeze_encoder_steps
        logits, frames = self.recognizer.logits(
            batch.waveforms,
            batch.num_samples if batch.is_padded else None,
            mask=span_masks(self.masks, generator),
            encoder_learns=learns,
        )
        nats = ctc_nats(logits, frames, [self.units["train"][row] for row in batch.rows.tolist()])
        if not learns:  # several devices wait for every gradient there is
            nats = nats + 0 * sum(weight.sum() for weight in self._encoder_weights())
        return nats / frames.sum(), {}, frames.sum()

    def _validated(self, batch: WaveBatch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        nats, frames, heard = [], [], []
        rows = batch.rows.tolist()
        for place, row in enumerate(rows):
            waveform = batch.waveforms[place : place + 1, : int(batch.num_samples[place])]
            logits, length = self.recognizer.logits(waveform)
            nats.append(ctc_nats(logits, length, [self.units["val"][row]]))
            frames.append(length.sum())
            heard.append(self.vocabulary.decode(collapse(logits[0].argmax(-1).tolist())))
        errors = count_errors([self.texts["val"][row] for row in rows], heard)
        total = torch.stack(frames).sum()
        # Counts for each frame, whose means over all batches stand in the right proportion.
        counts = {
            "word_errors": errors.word_errors,
            "words": errors.words,
            "character_errors": errors.character_errors,
            "characters": errors.characters,
            "heard": np.array([bool(text.strip()) for text in heard]),
        }
        return (
            torch.stack(nats).sum() / total,
            {name: torch.tensor(float(count.sum()), device=total.device) / total for name, count in counts.items()},
            total,
        )

    def on_validation_epoch_end(self) -> None:
        """Error rates from the counts, and whether there is anything but blanks."""
        super().on_validation_epoch_end()
        mean = self.val_metrics
        mean["val/wer"] = mean.pop("val/word_errors") / mean.pop("val/words")
        mean["val/cer"] = mean.pop("val/character_errors") / mean.pop("val/characters")
        self.remark = "" if mean.pop("val/heard") else ONLY_BLANKS

    def choice(self) -> float | None:
        """The word error rate; from 100 % up the loss: blanks alone have 100 %, and first words often more."""
        rate = self.val_metrics.get(self.chosen_by)
        return rate if rate is None or rate < 1 else 1 + self.val_metrics["val/loss"]

    def learning_rate_factor(self) -> Callable[[int], float]:
        """Three phases."""
        optim = self.optim
        return three_phases(self.max_steps, optim["phases"], optim["first_lr_share"], optim["last_lr_share"])

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the encoder alone, moments included, while the head learns alone."""
        if self.trainer.global_step < self.freeze_encoder_steps:
            for weight in self._encoder_weights():
                weight.grad = None
        super().configure_gradient_clipping(optimizer, *args, **kwargs)

    def _encoder_weights(self) -> list[torch.nn.Parameter]:
        return [weight for weight in self.recognizer.encoder.parameters() if weight.requires_grad]


def ctc_nats(logits: Tensor, num_frames: Tensor, units: Sequence[Sequence[int]]) -> Tensor:
    """-log P(units | audio), summed over a batch; 0 where there are too few frames to say the units.

    Args:
        logits: (B, T, V).
        num_frames: (B,) real frames.
        units: of each row, without blanks (0).
    """
    lengths = torch.tensor([len(row) for row in units])
    targets = torch.tensor([unit for row in units for unit in row], dtype=torch.int64, device=logits.device)
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probs, targets, num_frames.cpu(), lengths, blank=0, reduction="sum", zero_infinity=True)


def span_masks(masks: Mapping[str, Any], generator: torch.Generator) -> Mask:
    """Hide spans of frames and of channels by zeros.

    wav2vec 2.0 (arXiv:2006.11477, section 3.1 and appendix B) puts a learned vector in the place of frames and zeros in
    that of channels, behind the projection. Distilled students have no such vector, so both are zeros here, in front
    of the projection.

    Args:
        masks: `time_probability`, `time_length`, `channel_probability`, `channel_length`.
        generator: on the CPU.
    """

    def hide(features: Tensor, num_frames: Tensor) -> Tensor:
        rows, size, channels = features.shape
        hidden = torch.zeros(rows, size, channels, dtype=torch.bool)
        if masks["time_probability"] > 0:
            length = int(masks["time_length"])
            hidden |= span_mask(num_frames.cpu(), size, masks["time_probability"], length, generator)[..., None]
        if masks["channel_probability"] > 0:
            length = min(int(masks["channel_length"]), max(1, channels // 4))
            every = torch.full((rows,), channels)
            hidden |= span_mask(every, channels, masks["channel_probability"], length, generator)[:, None]
        return features.masked_fill(hidden.to(features.device), 0)

    return hide


def three_phases(
    max_steps: int, phases: Sequence[float], first_share: float, last_share: float
) -> Callable[[int], float]:
    """Factor on the peak learning rate: up in a straight line, level, down exponentially (wav2vec 2.0's fine-tuning).

    Args:
        max_steps: optimizer steps of the run.
        phases: parts of the steps that go up, stay and go down; they make 1.
        first_share: of the peak, where it begins.
        last_share: of the peak, where it ends.

    Returns:
        Function from the number of steps done to a factor; the step that follows uses it.
    """
    up, level, down = (round(max_steps * phase) for phase in phases)

    def factor(steps_done: int) -> float:
        if steps_done < up:
            return first_share + (1 - first_share) * steps_done / up
        if steps_done < up + level or not down:
            return 1.0
        return math.exp(math.log(last_share) * min(1.0, (steps_done - up - level) / down))

    return factor
