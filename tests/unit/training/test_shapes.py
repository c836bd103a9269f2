"""Which subnets a step trains: seeded by the step, and the options."""

import torch

from speechdistill.models.search_space import Subnet
from speechdistill.settings.supernet import SIZES
from speechdistill.training.shapes import SubnetPlan
from tests.supernets import TINY_SPACE


def test_seed_and_step_alone_decide():
    plan = SubnetPlan(TINY_SPACE, 100)
    torch.manual_seed(1)
    first = [plan.subnets(7, step) for step in range(50)]
    torch.manual_seed(2)
    assert [SubnetPlan(TINY_SPACE, 100).subnets(7, step) for step in reversed(range(50))] == first[::-1]
    assert all(list(drawn) == ["random"] for drawn in first)
    assert len({drawn["random"] for drawn in first}) == 50
    assert plan.subnets(8, 0) != first[0]


def test_the_sandwich_has_the_same_random_subnet_between_the_two_ends():
    plain, sandwich = SubnetPlan(TINY_SPACE, 100), SubnetPlan(TINY_SPACE, 100, sandwich=True)
    drawn = sandwich.subnets(0, 3)
    assert list(drawn) == ["largest", "smallest", "random"]
    assert drawn["largest"] == TINY_SPACE.largest()
    assert drawn["smallest"] == TINY_SPACE.smallest()
    assert drawn["random"] == plain.subnets(0, 3)["random"]


def test_more_random_subnets_stand_behind_the_first():
    one, two = SubnetPlan(TINY_SPACE, 100, sandwich=True), SubnetPlan(TINY_SPACE, 100, sandwich=True, random=2)
    drawn = [two.subnets(0, step) for step in range(20)]
    assert all(list(step) == ["largest", "smallest", "random", "random_2"] for step in drawn)
    assert [step["random"] for step in drawn] == [one.subnets(0, step)["random"] for step in range(20)]
    assert len({subnet for step in drawn for subnet in (step["random"], step["random_2"])}) == 40
    assert list(SubnetPlan(TINY_SPACE, 100, random=2).subnets(0, 0)) == ["random", "random_2"]


def test_the_published_subnet_may_be_in_each_step():
    drawn = SubnetPlan(TINY_SPACE, 100, sandwich=True, published=True).subnets(0, 3)
    assert list(drawn) == ["largest", "smallest", "published", "random"]
    assert drawn["published"] == TINY_SPACE.named("published")
    assert drawn["random"] == SubnetPlan(TINY_SPACE, 100).subnets(0, 3)["random"]
    assert list(SubnetPlan(TINY_SPACE, 100, published=True).subnets(0, 3)) == ["published", "random"]


def test_shrinking_opens_one_size_after_another():
    plan = SubnetPlan(TINY_SPACE, 60, shrink=SIZES, shrink_share=0.5)  # all are open from step 30 on
    for step in range(60):
        subnet = plan.subnets(0, step)["random"]
        closed = SIZES[1 + step // 10 :]
        assert "hidden_size" not in closed or subnet.hidden_size == 32
        assert "num_attention_heads" not in closed or set(subnet.num_attention_heads) == {4}
        assert "ffn_ratio" not in closed or set(subnet.ffn_ratios) == {2.0}
        assert plan.open_space(step).count() == TINY_SPACE.narrowed(SIZES[: 1 + step // 10]).count()
    smallest = SubnetPlan(TINY_SPACE, 80, sandwich=True, shrink=SIZES).subnets(0, 0)["smallest"]
    assert smallest == Subnet.uniform(32, 4, 2.0, 4)
    assert SubnetPlan(TINY_SPACE, 80, shrink=SIZES, shrink_share=0.0).open_space(4).count() == TINY_SPACE.count()
