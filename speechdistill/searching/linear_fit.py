"""One measure for students of every kind: how much of the teacher a linear map of their hidden states cannot tell.

Each recipe has a loss of its own, which says nothing beside another's. What a student is used for is its hidden states,
through a linear map or little more, so that is what is compared: no heads, no recipe's own target.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ, padding_mask
from speechdistill.models.student import StudentModel
from speechdistill.teachers.load import Teacher

# Added to the diagonal of the normal equations, as a part of its mean: directions that hardly vary tell nothing.
_RIDGE = 1e-4
_FRAMES_PER_FEATURE = 4


class LinearFit:
    """Share of a teacher's variance that no linear map from one of a student's layers explains, on unseen frames.

    For each teacher layer 1 to L the best of the student's layers counts, since users choose or weight layers too. The
    maps are fitted by least squares with a bias on every other batch, where the best layer is chosen as well, and
    judged on the rest; a single batch is halved.

    Args:
        teacher: makes the targets, once.
        batches: validation recordings, two or more.
        device: where states are computed.
        more: what gives more validation audio, for messages.

    Raises:
        UserError: too few recordings.
    """

    @torch.inference_mode()
    def __init__(self, teacher: Teacher, batches: Sequence[WaveBatch], device: str, more: str) -> None:
        if len(batches) == 1:
            batches = _halves(batches[0])
        if len(batches) < 2:
            raise UserError(f"validation audio is missing: one recording is too little to fit and to judge; {more}.")
        self.device, self._more = device, more
        self._batches = [batch.to(device) for batch in batches]
        teacher.to(device)
        layers = range(1, teacher.num_layers + 1)
        self._targets = []
        for batch in self._batches:
            taps = teacher(batch, layers)
            valid = ~padding_mask(taps.num_frames, next(iter(taps.tensors["hidden"].values())).shape[1])
            self._targets.append(torch.stack([taps.tensors["hidden"][layer][valid] for layer in layers], 1).cpu())

    @torch.inference_mode()
    def __call__(self, student: StudentModel) -> list[float]:
        """Unexplained share, 0 to about 1, for each teacher layer from the lowest.

        Raises:
            UserError: too few frames for so wide a student, or it makes other frames than the teacher.
        """
        student = student.to(self.device)
        layers = range(student.config.num_hidden_layers + 1)
        states: list[Tensor] = []
        for batch, target in zip(self._batches, self._targets, strict=True):
            encoded = student.encode(batch.waveforms, batch.num_samples if batch.is_padded else None, layers)
            valid = ~padding_mask(encoded.num_frames, encoded.last_hidden_state.shape[1])
            states.append(torch.stack([encoded.hidden_states[layer][valid] for layer in layers], 1).cpu())
            if len(states[-1]) != len(target):
                raise UserError(f"a student makes {len(states[-1])} frames where the teacher makes {len(target)}.")
        fit_x, judge_x = torch.cat(states[::2]), torch.cat(states[1::2])
        fit_y, judge_y = torch.cat(self._targets[::2]), torch.cat(self._targets[1::2])
        if len(fit_x) < _FRAMES_PER_FEATURE * fit_x.shape[2]:
            frame_seconds = sum(float(batch.num_samples.sum()) for batch in self._batches) / SAMPLE_RATE_HZ
            frame_seconds /= len(fit_x) + len(judge_x)
            needed = 2 * _FRAMES_PER_FEATURE * fit_x.shape[2] * frame_seconds
            raise UserError(
                f"validation audio is missing: a student of {fit_x.shape[2]} features takes about {needed:.0f} s, half "
                f"to fit and half to judge, and there are {frame_seconds * (len(fit_x) + len(judge_x)):.0f} s; "
                f"{self._more}."
            )
        return best_unexplained(fit_x, fit_y, judge_x, judge_y)


def _halves(batch: WaveBatch) -> list[WaveBatch]:
    """The first and the second half of the recordings; one alone stays whole."""
    middle = len(batch.num_samples) // 2
    return [batch.part(part) for part in (slice(0, middle), slice(middle, None)) if len(batch.num_samples[part])]


def best_unexplained(fit_x: Tensor, fit_y: Tensor, judge_x: Tensor, judge_y: Tensor) -> list[float]:
    """Judge, for each teacher layer, the student layer that fits it best.

    Args:
        fit_x: (F, student layers, D) states to fit on.
        fit_y: (F, teacher layers, D').
        judge_x: (F', student layers, D) states to judge on.
        judge_y: (F', teacher layers, D').
    """
    rows = [
        unexplained(fit_x[:, layer], fit_y, (fit_x[:, layer], fit_y), (judge_x[:, layer], judge_y))
        for layer in range(fit_x.shape[1])
    ]
    on_fit, on_judged = (torch.stack([row[part] for row in rows]) for part in (0, 1))
    return on_judged.gather(0, on_fit.argmin(0, keepdim=True))[0].tolist()


def unexplained(x: Tensor, y: Tensor, *judged: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Fit y by a linear map of x, and give the share of variance left in each judged pair.

    Args:
        x: (F, D).
        y: (F, N, D').
        judged: pairs of (F', D) and (F', N, D').

    Returns:
        For each pair (N,): squared error / squared distance from the pair's mean.
    """
    x, flat = x.double(), y.double().flatten(1)
    mean_x, mean_y = x.mean(0), flat.mean(0)
    centred = x - mean_x
    gram = centred.T @ centred
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean())
    weights = torch.linalg.solve(gram, centred.T @ (flat - mean_y))
    shares = []
    for new_x, new_y in judged:
        wanted = new_y.double()
        predicted = ((new_x.double() - mean_x) @ weights + mean_y).view_as(wanted)
        error = (wanted - predicted).square().sum((0, 2))
        shares.append(error / (wanted - wanted.mean(0)).square().sum((0, 2)))
    return shares
