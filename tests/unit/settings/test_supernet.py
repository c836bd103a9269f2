"""The rules of search spaces and of once-for-all training."""

from typing import Any

import pytest

from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.models.search_space import SearchSpace
from speechdistill.settings.supernet import once_for_all_mistakes, space_mistakes
from tests.supernets import TINY_SPACE

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "ffn_ratio": 1, "depth": 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random": 0}, "once_for_all.random=0: give how many"),
        ({"random": True}, "once_for_all.random=True: give how many"),
        ({"sandwich": 1}, "once_for_all.sandwich=1: give true or false."),
        ({"largest_weight": 0.0}, "once_for_all.largest_weight=0.0: give a number above 0"),
        ({"largest_weight": float("inf")}, "once_for_all.largest_weight=inf: give a number above 0"),
        (
            {"in_place": True, "sandwich": False},
            "once_for_all.in_place=true needs the largest subnet in each step: add once_for_all.sandwich=true.",
        ),
        ({"shrink": ["depth", "width"]}, "once_for_all.shrink=['depth', 'width']: give all of depth, ffn_ratio"),
        ({"shrink": "depth"}, "once_for_all.shrink=depth: give all of"),
        ({"shrink_share": 2}, "once_for_all.shrink_share=2: give a share"),
        ({"subnet": "tiny"}, "once_for_all.subnet=tiny: allowed are smallest, published, largest, or null"),
        ({"subnet": {**SIZES, "depth": 0}}, "once_for_all.subnet.depth=0: give a whole number from 1 up."),
        ({"subnet": {"depth": 3}}, "once_for_all.subnet={'depth': 3}: give exactly hidden_size, num_attention_heads"),
    ],
)
def test_a_mistake_of_once_for_all_training_is_one_message(options: dict[str, Any], message: str) -> None:
    (found,) = once_for_all_mistakes(options).values()
    assert found.startswith(message)


def test_what_may_stand_there_may() -> None:
    assert once_for_all_mistakes({}) == {}  # a run of an earlier version
    for subnet in (None, "largest", SIZES, {**SIZES, "ffn_ratio": [1.0, 2.0, 1.0, 1.5]}):
        assert once_for_all_mistakes({"sandwich": True, "in_place": True, "subnet": subnet}) == {}
    order = ["hidden_size", "depth", "ffn_ratio", "num_attention_heads"]
    assert once_for_all_mistakes({"shrink": order}) == once_for_all_mistakes({"shrink": []}) == {}
    assert space_mistakes(TINY_SPACE.to_dict()) == space_mistakes({}) == {}


def test_all_mistakes_of_a_space_are_told() -> None:
    published = {"hidden_size": 20, "num_attention_heads": [2, 3, 9, 2, 2, 2], "ffn_ratio": 1.0, "depth": 6}
    space = {**TINY_SPACE.to_dict(), "ffn_ratio": [0], "depth": [5, 5], "published": published, "hidden_sizes": [1]}
    assert list(space_mistakes(space).values()) == [
        "search_space has no key 'hidden_sizes', did you mean 'hidden_size'? It takes hidden_size, "
        "num_attention_heads, ffn_ratio, depth, published.",
        "search_space.ffn_ratio=[0]: give a list of different numbers above 0, one or more.",
        "search_space.depth=[5, 5]: give a list of different whole numbers from 1 up, one or more.",
    ]
    with pytest.raises(UserError) as refused:
        SearchSpace.from_dict({**TINY_SPACE.to_dict(), "published": published})
    assert str(refused.value).splitlines()[1:] == [
        "  search_space.published.hidden_size=20: the subnet has hidden_size 20, which the search space does not: "
        "choices are 16, 24, 32.",
        "  search_space.published.num_attention_heads=9: the subnet has num_attention_heads 9, which the search space "
        "does not: choices are 2, 3, 4.",
    ]


def test_an_open_space_is_no_mistake_nor_a_subnet_of_a_space_that_the_size_may_change() -> None:
    assert configure("train", ["recipe=lighthubert"])["search_space"]["depth"] is None
    published = "{hidden_size: 512, num_attention_heads: 8, ffn_ratio: 3.5, depth: 3}"
    configure("train", ["recipe=lighthubert", f"search_space.published={published}"])
    with pytest.raises(UserError, match=r"search_space\.hidden_size=3: give a list"):
        configure("train", ["recipe=lighthubert", "size=paper", "search_space.hidden_size=3"])
