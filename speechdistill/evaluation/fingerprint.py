"""What hidden states depend on, as a hash: an encoder's weights and its config."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from speechdistill.models.student import StudentModel
from speechdistill.teachers.load import Teacher, config_sha256


def encoder_sha256(model: StudentModel | Teacher) -> str:
    """SHA-256 of a student's or a teacher's weights and of what its config says about the computation."""
    return state_sha256([config_sha256(model.config)], model.state_dict())


def state_sha256(about: Any, state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name, and of what else counts.

    Args:
        about: anything that JSON can say.
        state: a state_dict.
    """
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
