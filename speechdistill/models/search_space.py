"""What can be chosen in a supernet: subnets, and the space that they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch

from speechdistill.errors import UserError
from speechdistill.settings.schema import refuse
from speechdistill.settings.supernet import NAMED, published_mistakes, space_mistakes, subnet_mistakes


@dataclass(frozen=True)
class Subnet:
    """The sizes of one student inside a supernet. Its depth is the length of the two tuples.

    Attributes:
        hidden_size: width of the Transformer.
        num_attention_heads: of each layer, from the lowest that is kept.
        ffn_ratios: width of each layer's feed-forward network as a multiple of `hidden_size`.
    """

    hidden_size: int
    num_attention_heads: tuple[int, ...]
    ffn_ratios: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("num_attention_heads", "ffn_ratios"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # lists are no part of a frozen record
        if not self.num_attention_heads or len(self.num_attention_heads) != len(self.ffn_ratios):
            raise ValueError(
                f"Subnet: {len(self.num_attention_heads)} num_attention_heads and {len(self.ffn_ratios)} ffn_ratios; "
                "allowed: one of each for each layer, one layer or more"
            )

    @property
    def depth(self) -> int:
        """Transformer layers."""
        return len(self.num_attention_heads)

    @property
    def intermediate_sizes(self) -> tuple[int, ...]:
        """Width of each layer's feed-forward network; a fraction is cut off, as in the released code."""
        return tuple(int(ratio * self.hidden_size) for ratio in self.ffn_ratios)

    @classmethod
    def uniform(cls, hidden_size: int, num_attention_heads: int, ffn_ratio: float, depth: int) -> "Subnet":
        """A subnet whose layers are all alike."""
        return cls(hidden_size, (num_attention_heads,) * depth, (float(ffn_ratio),) * depth)

    @classmethod
    def from_dict(cls, sizes: Mapping[str, Any]) -> "Subnet":
        """Read {hidden_size, num_attention_heads, ffn_ratio, depth}; heads and ratio are a number or one a layer.

        Raises:
            UserError: other keys, or lists whose length is not the depth.
        """
        refuse(subnet_mistakes(sizes))
        heads, ratios = (
            tuple(value) if isinstance(value, list | tuple) else (value,) * sizes["depth"]
            for value in (sizes["num_attention_heads"], sizes["ffn_ratio"])
        )
        return cls(sizes["hidden_size"], heads, tuple(float(ratio) for ratio in ratios))

    def to_dict(self) -> dict[str, Any]:
        """The counterpart of `from_dict`."""
        return {
            "hidden_size": self.hidden_size,
            "num_attention_heads": list(self.num_attention_heads),
            "ffn_ratio": list(self.ffn_ratios),
            "depth": self.depth,
        }


@dataclass(frozen=True)
class SearchSpace:
    """The choices for each size of a subnet (LightHuBERT, Wang et al., Interspeech 2022, arXiv:2203.15610).

    The width and the depth are those of the whole network; heads and feed-forward ratio are chosen layer by layer.

    Attributes:
        hidden_size: widths.
        num_attention_heads: heads of a layer.
        ffn_ratio: widths of a layer's feed-forward network, as multiples of the width.
        depth: numbers of layers.
        published: the subnet that stands for the space: the authors' choice, or a middle one.
    """

    hidden_size: tuple[int, ...]
    num_attention_heads: tuple[int, ...]
    ffn_ratio: tuple[float, ...]
    depth: tuple[int, ...]
    published: Subnet

    @classmethod
    def from_dict(cls, space: Mapping[str, Any]) -> "SearchSpace":
        """Read what a YAML file or a supernet's config.json says.

        Raises:
            UserError: a key is missing or unknown, or a value is not allowed.
        """
        names = [field.name for field in fields(cls)]
        if set(space) != set(names):
            raise UserError(f"search_space={dict(space)}: give exactly {', '.join(names)}.")
        refuse(space_mistakes(space))
        refuse(published_mistakes(space))
        choices = {name: tuple(space[name]) for name in names if name != "published"}
        choices["ffn_ratio"] = tuple(float(ratio) for ratio in choices["ffn_ratio"])
        return cls(**choices, published=Subnet.from_dict(space["published"]))

    def to_dict(self) -> dict[str, Any]:
        """The counterpart of `from_dict`."""
        choices = {name: list(values) for name, values in self._choices().items()}
        return {**choices, "published": self.published.to_dict()}

    def count(self) -> int:
        """How many different subnets there are."""
        of_layer = len(self.num_attention_heads) * len(self.ffn_ratio)
        return len(self.hidden_size) * sum(of_layer**depth for depth in self.depth)

    def smallest(self) -> Subnet:
        """The least of everything."""
        return Subnet.uniform(
            min(self.hidden_size), min(self.num_attention_heads), min(self.ffn_ratio), min(self.depth)
        )

    def largest(self) -> Subnet:
        """The most of everything."""
        return Subnet.uniform(
            max(self.hidden_size), max(self.num_attention_heads), max(self.ffn_ratio), max(self.depth)
        )

    def named(self, name: str) -> Subnet:
        """One of NAMED.

        Raises:
            UserError: no such name.
        """
        if name not in NAMED:
            raise UserError(f"subnet={name}: names are {', '.join(NAMED)}; else give the sizes of a Subnet.")
        return self.published if name == "published" else getattr(self, name)()

    def draw(self, generator: torch.Generator) -> Subnet:
        """Draw a subnet as the released code does: each size uniformly, heads and ratios layer by layer.

        A shallow subnet is as likely as a deep one, although there are fewer of them.

        Args:
            generator: source of randomness (CPU).
        """

        def choose(choices: tuple[Any, ...], count: int) -> tuple[Any, ...]:
            places = torch.randint(len(choices), (count,), generator=generator)
            return tuple(choices[place] for place in places.tolist())

        (depth,) = choose(self.depth, 1)
        (hidden_size,) = choose(self.hidden_size, 1)
        ratios = choose(self.ffn_ratio, depth)
        return Subnet(hidden_size, choose(self.num_attention_heads, depth), ratios)

    def narrowed(self, names: tuple[str, ...]) -> "SearchSpace":
        """Leave a choice for these sizes only; every other one has its largest value, also in `published`."""
        space = {name: values if name in names else (max(values),) for name, values in self._choices().items()}
        largest = Subnet.uniform(*(max(values) for values in space.values()))
        return replace(self, **cast(Any, space), published=largest)

    def contains(self, subnet: Subnet) -> bool:
        """Whether every size is one of the choices."""
        return not self._strange(subnet)

    def check(self, subnet: Subnet) -> None:
        """Refuse a subnet of another space.

        Raises:
            UserError: with the first size that cannot be chosen.
        """
        if strange := self._strange(subnet):
            name, value = strange[0]
            allowed = ", ".join(f"{choice:g}" for choice in sorted(self._choices()[name]))
            raise UserError(f"the subnet has {name} {value:g}, which the search space does not: choices are {allowed}.")

    def _strange(self, subnet: Subnet) -> list[tuple[str, float]]:
        sizes: dict[str, tuple[float, ...]] = {
            "depth": (subnet.depth,),
            "hidden_size": (subnet.hidden_size,),
            "num_attention_heads": subnet.num_attention_heads,
            "ffn_ratio": subnet.ffn_ratios,
        }
        choices = self._choices()
        return [(name, value) for name, values in sizes.items() for value in values if value not in choices[name]]

    def _choices(self) -> dict[str, tuple[Any, ...]]:
        names = ("hidden_size", "num_attention_heads", "ffn_ratio", "depth")
        return {name: getattr(self, name) for name in names}
