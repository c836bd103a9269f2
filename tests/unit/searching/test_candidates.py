"""Proposals: within the budget, never twice, and nothing but the seed and the history decides."""

from itertools import pairwise

import torch

from speechdistill import Subnet
from speechdistill.models.search_space import SearchSpace
from speechdistill.searching.candidates import Proposer, crossed, mutated, shrunk
from speechdistill.searching.history import Trial
from tests.supernets import TINY_SPACE


def size(subnet: Subnet) -> int:
    """A stand-in for parameters: it grows with every size."""
    return sum(
        subnet.hidden_size * (4 * heads + units)
        for heads, units in zip(subnet.num_attention_heads, subnet.intermediate_sizes, strict=True)
    )


def proposer(method: str = "evolution", seed: int = 0, most: int = 10**9, space: SearchSpace = TINY_SPACE) -> Proposer:
    return Proposer(space, lambda subnet: size(subnet) <= most, method, seed, 6, 0.34, 0.2)


def run(choice: Proposer, count: int, loss=lambda subnet: -size(subnet), slow=lambda subnet: False) -> list[Trial]:
    trials: list[Trial] = []
    while len(trials) < count and (proposed := choice.propose(trials)) is not None:
        origin, subnet = proposed
        trials.append(Trial(origin, subnet, size(subnet), 0, 1.0, None if slow(subnet) else float(loss(subnet))))
    return trials


def test_the_named_subnets_come_first_where_they_fit():
    assert [trial.origin for trial in run(proposer(), 4)] == ["smallest", "published", "largest", "random"]
    tight = run(proposer(most=size(TINY_SPACE.smallest()) + 400), 2)
    assert [trial.origin for trial in tight] == ["smallest", "random"]


def test_every_proposal_is_new_and_fits_also_a_tight_budget():
    for method in ("evolution", "random"):
        for most in (size(TINY_SPACE.smallest()) + 400, size(TINY_SPACE.published), 10**9):
            trials = run(proposer(method, most=most), 30)
            assert len({trial.subnet for trial in trials}) == len(trials) == 30
            assert all(TINY_SPACE.contains(trial.subnet) and trial.params <= most for trial in trials)


def test_a_history_cut_anywhere_goes_on_as_it_would_have():
    whole = run(proposer(seed=5), 24)
    assert {"mutation", "crossover"} <= {trial.origin for trial in whole}
    for cut in (0, 5, 6, 17):
        proposed = proposer(seed=5).propose(whole[:cut])
        assert proposed == (whole[cut].origin, whole[cut].subnet)
    assert [trial.subnet for trial in run(proposer(seed=6), 24)] != [trial.subnet for trial in whole]


def test_evolution_finds_what_random_search_does_not():
    # A loss that only heads of 2 and ratios of 2 in all of six layers make zero: one subnet in half a million.
    def loss(subnet: Subnet) -> float:
        return (
            sum(heads != 2 for heads in subnet.num_attention_heads)
            + sum(ratio != 2 for ratio in subnet.ffn_ratios)
            + 6
            - subnet.depth
        )

    best = {
        method: sum(min(trial.loss or 0.0 for trial in run(proposer(method, seed), 150, loss)) for seed in range(3))
        for method in ("evolution", "random")
    }
    assert best["evolution"] < best["random"] / 2


def test_too_slow_subnets_lead_to_smaller_ones():
    most = size(TINY_SPACE.smallest()) * 1.3
    trials = run(proposer("random"), 60, slow=lambda subnet: size(subnet) > most)
    after_slow = [late for early, late in pairwise(trials) if early.loss is None]
    assert sum(late.origin == "shrunk" for late in after_slow) > 10
    assert sum(trial.loss is not None for trial in trials) > 5


def test_an_exhausted_space_ends_the_search():
    one = {"num_attention_heads": [2], "ffn_ratio": [1.0], "depth": [4]}
    published = {"hidden_size": 24, "num_attention_heads": 2, "ffn_ratio": 1.0, "depth": 4}
    space = SearchSpace.from_dict({**TINY_SPACE.to_dict(), **one, "published": published})
    assert len(run(proposer(space=space), 10)) == space.count() == 3


def test_operators_stay_in_the_space_and_change_what_they_should():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        first, second = TINY_SPACE.draw(generator), TINY_SPACE.draw(generator)
        child = crossed(first, second, generator)
        assert TINY_SPACE.contains(child)
        assert child.hidden_size in (first.hidden_size, second.hidden_size)
        assert child.depth in (first.depth, second.depth)
        for layer, heads in enumerate(child.num_attention_heads):
            assert heads in [parent.num_attention_heads[layer] for parent in (first, second) if layer < parent.depth]
        assert TINY_SPACE.contains(mutated(first, TINY_SPACE, 0.5, generator))
        assert size(shrunk(first, TINY_SPACE, generator)) < size(first)
    assert mutated(first, TINY_SPACE, 1e-9, generator) == first
    assert shrunk(TINY_SPACE.smallest(), TINY_SPACE, generator) == TINY_SPACE.smallest()
