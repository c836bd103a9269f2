"""A once-for-all supernet: one full-size student, of which any subnet can be trained, used and taken out."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.func import functional_call

from speechdistill.batch import Tap
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.heads import ContextualHead
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.models.slicing import kept_layers, slices, subnet_config
from speechdistill.models.student import Distilled, StudentForDistillation, StudentModel

_SHELLS = 16


class Supernet(nn.Module):
    """LightHuBERT's supernet (Wang et al., Interspeech 2022, arXiv:2203.15610).

    There are no elastic layers: the forward of a subnet is that of the plain student of its shape, called on slices of
    the supernet's weights. So a subnet behaves as the student that `extract` makes of it.

    Attributes:
        network: the full-size student with its contextual head, if any.
        space: what can be chosen.

    Args:
        network: becomes part of the supernet.
        space: what can be chosen.

    Raises:
        UserError: the network is smaller than the space's largest subnet, or its shape cannot be sliced.
    """

    def __init__(self, network: StudentForDistillation, space: SearchSpace) -> None:
        super().__init__()
        _check_fits(network.config, space)
        self.network = network
        self.space = space
        self._shells: dict[Subnet, StudentForDistillation] = {}

    @property
    def config(self) -> StudentConfig:
        """Of the full-size student."""
        return self.network.config

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None = None,
        subnet: Subnet | None = None,
        masked: Tensor | None = None,
        features: Tensor | None = None,
        taps: Collection[Tap] = (),
    ) -> Distilled:
        """Predict the contextual target with a subnet, and expose its taps.

        Args:
            waveforms: (B, S).
            num_samples: (B,) real samples in each row; None = no row is padded.
            subnet: the sizes; None = the full-size student.
            masked: (B, T) bool, frames that the Transformer does not get to see.
            features: (B, T, C) of `convolve`, which are the same for every subnet.
            taps: of the full-size student; those of a layer that the subnet lacks are missing in the output, but for
                the last layer's, for which the subnet's last one stands.

        Raises:
            UserError: the subnet is not one of the search space.
        """
        if subnet is None:
            return self.network(waveforms, num_samples, masked=masked, features=features, taps=taps)
        self.space.check(subnet)
        features = self.convolve(waveforms, num_samples) if features is None else features
        weights = slices(dict(self.network.named_parameters()), subnet, self.config)
        whole = self.config.num_hidden_layers
        place = {layer + 1: number for number, layer in enumerate(kept_layers(whole, subnet.depth), start=1)}
        place |= {0: 0, whole: subnet.depth}
        own = {tap: tap._replace(layer=place[tap.layer]) for tap in taps if tap.layer in place}
        given = {"masked": masked, "features": features, "taps": set(own.values())}
        output: Distilled = functional_call(self._shell(subnet), weights, (waveforms, num_samples), given)
        found = {tap: output.taps[name] for tap, name in own.items()}
        # One head at most, on the last layer: it keeps its name.
        keys = [self.network.heads.key] if isinstance(self.network.heads, ContextualHead) else []
        predicted = dict(zip(keys, output.by_key.values(), strict=True))
        if self.training and torch.is_grad_enabled():
            # Several devices wait for a gradient of every parameter: layers that this subnet does not have get zeros.
            rest = 0.0 * sum(parameter.flatten()[0] for parameter in self._of_other_layers(subnet))
            predicted = {key: prediction + rest for key, prediction in predicted.items()}
            found = found if predicted else {tap: tensor + rest for tap, tensor in found.items()}
        return output._replace(by_key=predicted, taps=found)

    def convolve(self, waveforms: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """Run the convolutional front end, (B, S) to (B, T, C): no subnet has another."""
        return self.network.student.convolve(waveforms, num_samples)

    @torch.no_grad()
    def extract_with_head(self, subnet: Subnet) -> StudentForDistillation:
        """Make a student of its own out of a subnet, with its prediction head, in evaluation mode.

        Raises:
            UserError: the subnet is not one of the search space.
        """
        self.space.check(subnet)
        weights = slices(dict(self.network.named_parameters()), subnet, self.config)
        student = self._without_weights(subnet)
        # Views would keep the whole supernet in memory, and in files.
        student.load_state_dict({name: weight.clone() for name, weight in weights.items()}, assign=True)
        return student.eval()

    def extract(self, subnet: Subnet) -> StudentModel:
        """Make a student of its own out of a subnet; its output is the sliced supernet's.

        Raises:
            UserError: the subnet is not one of the search space.
        """
        return self.extract_with_head(subnet).student

    def _shell(self, subnet: Subnet) -> StudentForDistillation:
        """A student of the subnet's shape without weights; the last ones are kept, since building takes a moment."""
        shell = self._shells.pop(subnet, None)
        if shell is None:
            shell = self._without_weights(subnet)
        self._shells[subnet] = shell
        if len(self._shells) > _SHELLS:
            del self._shells[next(iter(self._shells))]
        return shell.train(self.training)

    def _without_weights(self, subnet: Subnet) -> StudentForDistillation:
        with torch.device("meta"):
            return StudentForDistillation(subnet_config(self.config, subnet))

    def _of_other_layers(self, subnet: Subnet) -> list[nn.Parameter]:
        kept = kept_layers(self.config.num_hidden_layers, subnet.depth)
        layers = self.network.student.encoder.layers
        return [
            parameter for place, layer in enumerate(layers) if place not in kept for parameter in layer.parameters()
        ]


def _check_fits(config: StudentConfig, space: SearchSpace) -> None:
    if config.time_reduction_layer is not None or (config.heads or {}).get("kind") not in (None, "contextual"):
        raise UserError("a supernet has no time reduction, and a contextual head or none.")
    if config.positional_convolution["depth"] > 1:
        raise UserError("a supernet has one positional convolution.")
    if not config.projection or any(layer["attention"] != "full" for layer in config.layers):
        raise UserError("a supernet has a projection, and each of its layers attention of its own, without biases.")
    sizes = {
        "hidden_size": (config.hidden_size, space.hidden_size),
        "num_attention_heads": (
            min(layer["num_attention_heads"] for layer in config.layers),
            space.num_attention_heads,
        ),
        "ffn_ratio": (
            min(layer["intermediate_size"] for layer in config.layers) / config.hidden_size,
            space.ffn_ratio,
        ),
        "depth": (config.num_hidden_layers, space.depth),
    }
    for name, (most, choices) in sizes.items():
        if max(choices) > most:
            raise UserError(
                f"search_space.{name}={list(choices)}: the full-size student has {most:g}, so that is the largest "
                "choice there can be. Take another architecture, or smaller choices."
            )
    groups = config.positional_convolution["groups"]
    if uneven := [width for width in space.hidden_size if width % groups]:
        raise UserError(
            f"search_space.hidden_size={list(space.hidden_size)}: {uneven[0]} is not a multiple of the positional "
            f"convolution's {groups} groups."
        )
