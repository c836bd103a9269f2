"""A small compression for tests: attention heads that learn to be left out."""

import copy

import torch
from torch import Tensor, nn

from speechdistill.compression.compression import Compression
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation


class HeadGates(Compression):
    """A gate for each head, drawn in training; open or shut in evaluation.

    Args:
        weight: of the share of open gates in the loss.
        lr: of the gates.
    """

    def __init__(self, weight: float = 1.0, lr: float = 0.05) -> None:
        super().__init__()
        self.weight = weight
        self.lr = lr
        self.gates = nn.ParameterList()

    def attach(self, student: StudentForDistillation) -> None:
        for layer in student.student.encoder.layers:
            attention = layer.attention
            heads = attention.q_proj.out_features // attention.head_size
            gate = nn.Parameter(torch.linspace(0.2, -0.1, heads))
            self.gates.append(gate)
            attention.out_proj.register_forward_pre_hook(lambda _, given, gate=gate: (self._gated(given[0], gate),))

    def _gated(self, context: Tensor, gate: Tensor) -> Tensor:
        if self.training:
            noise = torch.rand_like(gate)
            open_ = ((gate + noise.log() - (1 - noise).log()) / 0.5).sigmoid()
        else:
            open_ = _kept(gate).float()
        return (context.unflatten(-1, (len(gate), -1)) * open_[:, None]).flatten(-2)

    def penalty(self, step: int) -> Tensor:
        return self.weight * torch.cat([gate.sigmoid() for gate in self.gates]).mean()

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.gates), "lr": self.lr, "weight_decay": 0.0}]

    def metrics(self) -> dict[str, Tensor]:
        return {"heads_left": torch.stack([_kept(gate).sum() for gate in self.gates]).sum().float()}

    @torch.no_grad()
    def resolve(self, student: StudentForDistillation) -> StudentForDistillation:
        config, state = student.config.to_dict(), dict(student.state_dict())
        config = copy.deepcopy(config)
        for number, gate in enumerate(self.gates):
            layer = config["layers"][number]
            kept = _kept(gate).repeat_interleave(layer["head_size"])
            layer["num_attention_heads"] = int(_kept(gate).sum())
            place = f"student.encoder.layers.{number}.attention."
            for name in ("q_proj", "k_proj", "v_proj"):
                state |= {f"{place}{name}.{part}": state[f"{place}{name}.{part}"][kept] for part in ("weight", "bias")}
            state[f"{place}out_proj.weight"] = state[f"{place}out_proj.weight"][:, kept]
        plain = StudentForDistillation(StudentConfig.from_dict(config))
        plain.load_state_dict({name: weight.detach().clone().cpu() for name, weight in state.items()})
        return plain.eval()


def _kept(gate: Tensor) -> Tensor:
    """(H,) bool; one at least stays."""
    kept = gate > 0
    kept[gate.argmax()] = True
    return kept


class Idle(Compression):
    """One that forgets to say what it does."""


def not_a_compression() -> int:
    return 1
