"""Which subnet a search tries next: a pure function of the seed and of what was tried before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from speechdistill.errors import UserError
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.searching.history import Trial
from speechdistill.settings.supernet import NAMED
from speechdistill.training.module import numbered_generator

METHODS = ("evolution", "random")
# Children, and then draws, for one candidate that is new and fits, before the search takes the space for exhausted.
_DRAWS = 200
_UNIFORM_DRAWS = 50


@dataclass(frozen=True)
class Proposer:
    """Proposes subnets that meet the budget, none twice.

    Both methods begin with the smallest, the published and the largest subnet, where they fit. "random" goes on with
    uniform draws. "evolution" is the search of Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791): a first
    generation of draws; in each further one, children of the best of all before, half of them mutated, half crossed.
    Theirs asks a model of the accuracy; ours validates each subnet. As little fits into a tight budget, a draw that
    does not fit after some more is made smaller, at random, until it does.

    Attributes:
        space: what can be chosen.
        fits: whether a subnet meets the limits that a formula can tell.
        method: one of METHODS.
        seed: of the draws.
        population: validated subnets in a generation.
        parent_share: of all validated ones in the number of a population, those that have children.
        mutation_probability: for each size of a parent, that its child draws it anew.

    Raises:
        UserError: a value out of range.
    """

    space: SearchSpace
    fits: Callable[[Subnet], bool]
    method: str
    seed: int
    population: int
    parent_share: float
    mutation_probability: float

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"method={self.method}: allowed are {', '.join(METHODS)}.")
        for name in ("parent_share", "mutation_probability"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)}: give a share above 0, at most 1.")
        if type(self.population) is not int or self.population < 2:
            raise UserError(f"population={self.population}: give a whole number from 2 up.")

    def propose(self, trials: Sequence[Trial]) -> tuple[str, Subnet] | None:
        """The next subnet and where it comes from; None where nothing new was to be found.

        Args:
            trials: all before, in their order.
        """
        known = {trial.subnet for trial in trials}
        for name in NAMED:
            subnet = self.space.named(name)
            if subnet not in known and self.fits(subnet):
                return name, subnet
        generator = numbered_generator(self.seed, len(trials))
        parents = self._parents(trials)
        if trials and trials[-1].loss is None:  # it was too slow: something smaller may not be
            subnet = shrunk(trials[-1].subnet, self.space, generator)
            if subnet not in known and self.fits(subnet):
                return "shrunk", subnet
        for attempt in range(2 * _DRAWS):
            # A population that has come together has no new children: in the end, draws.
            has_child = parents and attempt < _DRAWS
            origin, subnet = self._child(parents, generator) if has_child else ("random", self._draw(generator))
            if subnet not in known and self.fits(subnet):
                return origin, subnet
        return None

    def _parents(self, trials: Sequence[Trial]) -> list[Subnet]:
        validated = [trial for trial in trials if trial.loss is not None]
        generations = len(validated) // self.population
        if self.method == "random" or not generations:
            return []
        before = sorted(validated[: generations * self.population], key=lambda trial: trial.loss or 0.0)
        return [trial.subnet for trial in before[: max(2, round(self.parent_share * self.population))]]

    def _child(self, parents: Sequence[Subnet], generator: torch.Generator) -> tuple[str, Subnet]:
        first, second = (parents[_below(len(parents), generator)] for _ in range(2))
        if _below(2, generator):
            return "crossover", crossed(first, second, generator)
        return "mutation", mutated(first, self.space, self.mutation_probability, generator)

    def _draw(self, generator: torch.Generator) -> Subnet:
        subnet = self.space.draw(generator)
        for _ in range(_UNIFORM_DRAWS):
            if self.fits(subnet):
                return subnet
            subnet = self.space.draw(generator)
        while not self.fits(subnet):
            subnet = shrunk(subnet, self.space, generator)
        return subnet


def mutated(subnet: Subnet, space: SearchSpace, probability: float, generator: torch.Generator) -> Subnet:
    """Draw each size anew with a probability; a layer that comes with a greater depth is drawn."""

    def kept(value: Any, choices: Sequence[Any]) -> Any:
        if float(torch.rand((), generator=generator)) < probability:
            return choices[_below(len(choices), generator)]
        return value

    other = space.draw(generator)  # sizes of further layers
    depth = kept(subnet.depth, space.depth)
    heads = (*subnet.num_attention_heads, *other.num_attention_heads * depth)[:depth]
    ratios = (*subnet.ffn_ratios, *other.ffn_ratios * depth)[:depth]
    return Subnet(
        kept(subnet.hidden_size, space.hidden_size),
        tuple(kept(value, space.num_attention_heads) for value in heads),
        tuple(kept(value, space.ffn_ratio) for value in ratios),
    )


def crossed(first: Subnet, second: Subnet, generator: torch.Generator) -> Subnet:
    """Take each size from either parent; a layer that only one has is that one's."""
    width = (first, second)[_below(2, generator)].hidden_size
    deep, other = (first, second) if _below(2, generator) else (second, first)
    heads, ratios = list(deep.num_attention_heads), list(deep.ffn_ratios)
    for layer in range(min(deep.depth, other.depth)):
        if _below(2, generator):
            heads[layer] = other.num_attention_heads[layer]
        if _below(2, generator):
            ratios[layer] = other.ffn_ratios[layer]
    return Subnet(width, tuple(heads), tuple(ratios))


def shrunk(subnet: Subnet, space: SearchSpace, generator: torch.Generator) -> Subnet:
    """Take the next smaller choice of each size with a probability of a half; only the smallest subnet stays."""

    def lowered(value: Any, choices: Sequence[Any]) -> Any:
        smaller = [choice for choice in choices if choice < value]
        return max(smaller) if smaller and _below(2, generator) else value

    while True:
        depth = lowered(subnet.depth, space.depth)
        found = Subnet(
            lowered(subnet.hidden_size, space.hidden_size),
            tuple(lowered(value, space.num_attention_heads) for value in subnet.num_attention_heads[:depth]),
            tuple(lowered(value, space.ffn_ratio) for value in subnet.ffn_ratios[:depth]),
        )
        if found != subnet or subnet == space.smallest():
            return found


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
