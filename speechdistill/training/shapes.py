"""Which subnets a step of once-for-all training takes: a pure function of the seed and the step."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.training.module import numbered_generator


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

    @classmethod
    def from_config(cls, space: SearchSpace, steps: int, config: Mapping[str, Any]) -> "SubnetPlan":
        """Read the keys of `once_for_all`."""
        names = [field.name for field in fields(cls) if field.name in config]  # runs of earlier versions lack some
        return cls(space, steps, **{name: config[name] for name in names} | {"shrink": tuple(config["shrink"])})

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
