"""Which subnets a step of once-for-all training takes: a pure function of the seed and the step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speechdistill.errors import UserError
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.training.module import numbered_generator

SIZES = ("depth", "ffn_ratio", "num_attention_heads", "hidden_size")


@dataclass(frozen=True)
class SubnetPlan:
    """How subnets are drawn.

    LightHuBERT (Wang et al., Interspeech 2022, arXiv:2203.15610) draws one at random. The options are not the paper's:
    the sandwich rule with in-place distillation is that of slimmable networks (Yu and Huang, ICCV 2019,
    arXiv:1903.05134), progressive shrinking that of Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791).

    Attributes:
        space: what can be chosen.
        steps: of once-for-all training.
        sandwich: the largest and the smallest subnet are in each step as well.
        published: the published subnet is in each step as well.
        random: how many are drawn in each step, beside those that are in it anyway. Yu and Huang take 2.
        largest_weight: how much more the largest's loss counts than each other one's, where the largest is in the step.
        in_place: with the sandwich rule, the others learn from the largest's prediction, in place of the teacher's.
        shrink: sizes that open one after another, others stay at their largest; empty = all are open from the start.
        shrink_share: part of the steps after which all are open.

    Raises:
        UserError: options that do not go together.
    """

    space: SearchSpace
    steps: int
    sandwich: bool = False
    published: bool = False
    random: int = 1
    largest_weight: float = 1.0
    in_place: bool = False
    shrink: tuple[str, ...] = ()
    shrink_share: float = 0.5

    def __post_init__(self) -> None:
        if self.in_place and not self.sandwich:
            raise UserError(
                "once_for_all.in_place=true needs the largest subnet in each step: add once_for_all.sandwich=true."
            )
        if type(self.random) is not int or self.random < 1:
            raise UserError(f"once_for_all.random={self.random}: give how many subnets a step draws, 1 or more.")
        if not 0 < self.largest_weight < math.inf:
            raise UserError(
                f"once_for_all.largest_weight={self.largest_weight}: give a number above 0; 1 = as the others."
            )
        if self.shrink and sorted(self.shrink) != sorted(SIZES):
            raise UserError(
                f"once_for_all.shrink={list(self.shrink)}: give all of {', '.join(SIZES)}, in the order in which they "
                "open, or [] for no shrinking."
            )
        if not 0 <= self.shrink_share <= 1:
            raise UserError(f"once_for_all.shrink_share={self.shrink_share}: give a share of 0 to 1.")

    @classmethod
    def from_config(cls, space: SearchSpace, steps: int, config: Mapping[str, Any]) -> "SubnetPlan":
        """Read the keys of `once_for_all`."""
        if not isinstance(config["shrink"], list | tuple):
            raise UserError(f"once_for_all.shrink={config['shrink']}: give a list of sizes, or [] for no shrinking.")
        plain = {
            name: config[name]
            for name in ("sandwich", "published", "random", "largest_weight", "in_place", "shrink_share")
            if name in config  # runs of earlier versions lack some
        }
        return cls(space, steps, shrink=tuple(config["shrink"]), **plain)

    def open_space(self, step: int) -> SearchSpace:
        """What can be drawn at a step of once-for-all training."""
        if not self.shrink:
            return self.space
        # At step 0 the first size is open already: a space of one subnet would be the first stage once more.
        part = step / max(1.0, self.steps * self.shrink_share)
        return self.space.narrowed(self.shrink[: 1 + int(part * (len(self.shrink) - 1))])

    def subnets(self, seed: int, step: int) -> dict[str, Subnet]:
        """The subnets of a step, the same for every rank and micro-batch.

        Args:
            seed: of the run.
            step: of once-for-all training.

        Returns:
            By the name under which their losses are logged; with the sandwich rule the largest comes first.
        """
        space = self.open_space(step)
        # The first one depends on no other number, so that runs with one random subnet stay what they were.
        drawn = {"random": space.draw(numbered_generator(seed, step))}
        for number in range(2, self.random + 1):
            drawn[f"random_{number}"] = space.draw(numbered_generator(seed, step, number))
        if self.published:
            drawn = {"published": space.named("published"), **drawn}
        if self.sandwich:
            drawn = {"largest": space.largest(), "smallest": space.smallest(), **drawn}
        return drawn
