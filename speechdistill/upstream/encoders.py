"""What can become an upstream, each behind one small module: a new kind of encoder gets its class here."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from speechdistill.batch import WaveBatch
from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.checkpoints.student_dir import load_student
from speechdistill.errors import UserError
from speechdistill.frames import num_frames, samples_for
from speechdistill.models.config import StudentConfig
from speechdistill.models.search_space import Subnet
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.safe_pickle import UnsafePickleError, fields, load_pickle
from speechdistill.teachers.load import Teacher, config_sha256


class States(NamedTuple):
    """What an encoder makes of a batch, at 20 ms (time-reduced states repeated).

    Attributes:
        hidden: {layer: (B, T, D)}, 0 to L.
        last: (B, T, D), after the final norm of a pre-norm encoder.
        num_frames: (B,) real frames in each row of these.
        predicted: {teacher layer: (B, P, D')}, ascending; empty without heads.
        num_predicted: (B,) real frames in each row of those; heads behind a time reduction leave out the last ones.
    """

    hidden: dict[int, Tensor]
    last: Tensor
    num_frames: Tensor
    predicted: dict[int, Tensor]
    num_predicted: Tensor


class StudentEncoder(nn.Module):
    """A student, alone or with its heads.

    Attributes (of every encoder here):
        hop_samples: from frame to frame.
        reduction: how many of them make one of a time-reduced student's own frames; 1 = not reduced.
        window_samples: the shortest recording that can be encoded.
        hidden_layers, hidden_size: hidden states, and their width.
        predicted_layers, predicted_size: teacher layers that heads predict, ascending, and their width.
        config_sha256: of what the config says about the computation.
    """

    def __init__(self, model: StudentModel | StudentForDistillation) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.config_sha256 = config_sha256(config)
        self.reduction = config.time_reduction_factor
        self.hop_samples = math.prod(stride for _, stride in config.conv_stack)
        self.window_samples = samples_for(1, config.conv_stack)
        self.conv_stack = config.conv_stack
        self.hidden_layers = tuple(range(config.num_hidden_layers + 1))
        self.hidden_size: int = config.hidden_size
        with_heads = isinstance(model, StudentForDistillation)
        self.predicted_layers = config.predicted_layers if with_heads else ()
        self.predicted_size: int = config.heads["teacher_hidden_size"] if self.predicted_layers else 0

    def forward(self, waveforms: Tensor, num_samples: Tensor) -> States:
        """Encode (B, S) waveforms with (B,) lengths, which may stay on the CPU."""
        frames = num_frames(num_samples, self.conv_stack).to(waveforms.device)
        if isinstance(self.model, StudentModel):
            encoded = self.model.encode(waveforms, num_samples, self.hidden_layers)
            return States(encoded.hidden_states, encoded.last_hidden_state, frames, {}, frames)
        output = self.model(waveforms, num_samples, self.hidden_layers)
        predicted = {layer: output.predictions[layer] for layer in self.predicted_layers}
        last = output.hidden_states[self.hidden_layers[-1]]
        return States(output.hidden_states, last, frames, predicted, output.num_frames.to(waveforms.device))


class TeacherEncoder(nn.Module):
    """A teacher, or any other Hugging Face encoder, made trainable; without layer-drop and without masked spans."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        teacher.model.requires_grad_(True)
        self.config_sha256 = teacher.config_sha256
        self.final_norm_is_apart = bool(getattr(teacher.config, "do_stable_layer_norm", False))
        self.hop_samples = math.prod(stride for _, stride in teacher.conv_stack)
        self.reduction = 1
        self.window_samples = samples_for(1, teacher.conv_stack)
        self.hidden_layers = tuple(range(teacher.num_layers + 1))
        self.hidden_size = teacher.hidden_size
        self.predicted_layers: tuple[int, ...] = ()
        self.predicted_size = 0

    def train(self, mode: bool = True) -> "TeacherEncoder":
        """Train, unlike a teacher that is distilled from."""
        super().train(mode)
        self.teacher.model.train(mode)
        return self

    def forward(self, waveforms: Tensor, num_samples: Tensor) -> States:
        """Encode (B, S) waveforms with (B,) lengths, which may stay on the CPU."""
        is_padded = bool((num_samples != waveforms.shape[1]).any())
        num_samples = num_samples.to(waveforms.device)
        rows = torch.zeros_like(num_samples)
        taps = self.teacher.taps(WaveBatch(waveforms, num_samples, rows, rows, is_padded))
        hidden = {layer: taps.tensors["hidden"][layer] for layer in self.hidden_layers}
        last = hidden[self.hidden_layers[-1]]
        if self.final_norm_is_apart:
            last = self.teacher.model.encoder.layer_norm(last)
        return States(hidden, last, taps.num_frames, {}, taps.num_frames)


def open_encoder(
    ckpt: str, heads: bool, subnet: str | Mapping[str, Any] | None = None, untrained: int | None = None
) -> StudentEncoder | TeacherEncoder:
    """Open what a person named: a student folder, a run's folder, a teacher, a supernet, or an exported model.pt.

    Args:
        ckpt: path, hub id or "mini".
        heads: with prediction heads.
        subnet: which student of a supernet: its name, or its sizes.
        untrained: seed of random weights in place of a student's own; None = its own.

    Raises:
        UserError: nothing of the kind there, or a teacher is to be untrained.
    """
    encoder = _open(ckpt, heads, subnet)
    if untrained is None:
        return encoder
    if isinstance(encoder, TeacherEncoder):
        raise UserError(f"untrained=true goes with a student; {ckpt} is a teacher.")
    torch.manual_seed(untrained)
    return StudentEncoder(type(encoder.model)(encoder.model.config).eval())


def _open(ckpt: str, heads: bool, subnet: str | Mapping[str, Any] | None) -> StudentEncoder | TeacherEncoder:
    if subnet is not None:
        sizes = subnet if isinstance(subnet, str) else Subnet.from_dict(subnet)
        of_supernet = load_student(ckpt, heads=True, subnet=sizes) if heads else load_student(ckpt, subnet=sizes)
        return StudentEncoder(of_supernet)
    path = Path(ckpt).expanduser()
    model = _from_file(path, heads) if path.is_file() else load_encoder(ckpt, key="ckpt", heads=heads)
    return TeacherEncoder(model) if isinstance(model, Teacher) else StudentEncoder(model)


def _from_file(path: Path, heads: bool) -> StudentModel | StudentForDistillation | Teacher:
    """Read the model.pt that `hub_files.write_hub_files` wrote, or a teacher's file."""
    try:
        content = fields(load_pickle(path))
        if "model" in content or "model_weight" in content:
            return load_encoder(str(path), key="ckpt", heads=heads)
        config = StudentConfig.from_dict(content["config"])
        model: Any = (StudentForDistillation if config.heads is not None else StudentModel)(config)
        model.load_state_dict(content["weights"])
    except (UnsafePickleError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"ckpt={path} is no model.pt of `speechdistill export format=s3prl`: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error
    if heads and config.heads is None:
        raise UserError(f"ckpt={path} has no prediction heads: states=hidden.")
    return (model if heads or config.heads is None else model.student).eval()
