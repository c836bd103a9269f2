"""Search spaces: what is in them, how many, how they are drawn from, what they refuse."""

from collections import Counter
from itertools import product

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.models.search_space import SearchSpace, Subnet
from tests.supernets import TINY_SPACE, space


@pytest.mark.parametrize(("name", "count"), [("base", 6_530_347_008), ("small", 951_892_141_473)])
def test_the_papers_counts(name, count):
    assert space(name).count() == count


def test_the_count_is_that_of_all_different_subnets():
    choices = SearchSpace((8, 16), (1, 2), (1.0, 2.0, 3.0), (1, 2), Subnet.uniform(8, 1, 1.0, 1))
    layers = list(product(choices.num_attention_heads, choices.ffn_ratio))
    everything = {
        Subnet(width, tuple(heads for heads, _ in chosen), tuple(ratio for _, ratio in chosen))
        for width in choices.hidden_size
        for depth in choices.depth
        for chosen in product(layers, repeat=depth)
    }
    assert choices.count() == len(everything) == 2 * (6 + 36)
    assert all(choices.contains(subnet) for subnet in everything)


def test_the_generator_alone_decides_what_is_drawn():
    torch.manual_seed(1)
    first = [TINY_SPACE.draw(torch.Generator().manual_seed(seed)) for seed in range(20)]
    torch.manual_seed(2)
    assert first == [TINY_SPACE.draw(torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert len(set(first)) == 20


def test_every_size_is_drawn_evenly_and_layer_by_layer():
    generator = torch.Generator().manual_seed(0)
    drawn = [TINY_SPACE.draw(generator) for _ in range(1200)]
    for values, choices in [
        ([subnet.hidden_size for subnet in drawn], TINY_SPACE.hidden_size),
        ([subnet.depth for subnet in drawn], TINY_SPACE.depth),
        ([subnet.num_attention_heads[0] for subnet in drawn], TINY_SPACE.num_attention_heads),
        ([subnet.ffn_ratios[-1] for subnet in drawn], TINY_SPACE.ffn_ratio),
    ]:
        counted = Counter(values)
        assert set(counted) == set(choices)
        assert all(abs(count - 400) < 80 for count in counted.values())  # 4.9 standard deviations
    pairs = Counter((subnet.num_attention_heads[0], subnet.num_attention_heads[1]) for subnet in drawn)
    assert len(pairs) == 9
    assert all(TINY_SPACE.contains(subnet) for subnet in drawn)


def test_smallest_largest_and_published():
    assert TINY_SPACE.smallest() == Subnet.uniform(16, 2, 1.0, 4) == TINY_SPACE.named("smallest")
    assert TINY_SPACE.largest() == Subnet.uniform(32, 4, 2.0, 6) == TINY_SPACE.named("largest")
    assert TINY_SPACE.named("published") == Subnet.uniform(24, 3, 2.0, 6)
    assert Subnet.uniform(24, 3, 1.7, 6).intermediate_sizes == (40,) * 6


def test_dictionaries_bring_everything_back():
    assert SearchSpace.from_dict(TINY_SPACE.to_dict()) == TINY_SPACE
    subnet = Subnet(16, (2, 3, 2, 4), (1.0, 1.5, 2.0, 1.0))
    assert Subnet.from_dict(subnet.to_dict()) == subnet
    same = {"hidden_size": 16, "num_attention_heads": 2, "ffn_ratio": 1, "depth": 4}
    assert Subnet.from_dict(same) == Subnet.uniform(16, 2, 1.0, 4)


def test_narrowed_leaves_a_choice_for_the_named_sizes_only():
    narrow = TINY_SPACE.narrowed(("depth",))
    assert narrow.count() == 3
    generator = torch.Generator().manual_seed(0)
    drawn = {narrow.draw(generator) for _ in range(50)}
    assert drawn == {Subnet.uniform(32, 4, 2.0, depth) for depth in (4, 5, 6)}
    assert TINY_SPACE.narrowed(("depth", "ffn_ratio", "num_attention_heads", "hidden_size")).count() == (
        TINY_SPACE.count()
    )


@pytest.mark.parametrize(
    ("subnet", "message"),
    [
        (Subnet.uniform(20, 2, 1.0, 4), r"hidden_size 20, .* choices are 16, 24, 32"),
        (Subnet.uniform(16, 2, 1.0, 3), r"depth 3, .* choices are 4, 5, 6"),
        (Subnet(16, (2, 2, 8, 2), (1.0,) * 4), r"num_attention_heads 8, .* choices are 2, 3, 4"),
        (Subnet(16, (2,) * 4, (1.0, 3.5, 1.0, 1.0)), r"ffn_ratio 3.5, .* choices are 1, 1.5, 2"),
        (space("small").published, "depth 12"),
    ],
)
def test_a_subnet_of_another_space_is_one_message(subnet, message):
    assert not TINY_SPACE.contains(subnet)
    with pytest.raises(UserError, match=message) as raised:
        TINY_SPACE.check(subnet)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": []}, r"search_space.hidden_size=\[\]"),
        ({"depth": [4, 4]}, r"search_space.depth=\[4, 4\]"),
        ({"ffn_ratio": [0, 1]}, r"search_space.ffn_ratio="),
        ({"published": {"hidden_size": 24}}, "give exactly hidden_size, num_attention_heads"),
        ({"hidden_size": [16]}, "the subnet has hidden_size 24"),
        ({"heads": [3]}, "give exactly hidden_size, num_attention_heads, ffn_ratio, depth, published"),
    ],
)
def test_a_space_that_cannot_be_is_one_message(changes, message):
    with pytest.raises(UserError, match=message):
        SearchSpace.from_dict({**TINY_SPACE.to_dict(), **changes})


def test_names_and_lists_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="subnet=middle: names are smallest, published, largest"):
        TINY_SPACE.named("middle")
    with pytest.raises(
        UserError, match=r"num_attention_heads=\[2, 2, 3\]: 3 values for a depth of 4\. Give one number, or one"
    ):
        Subnet.from_dict({"hidden_size": 16, "num_attention_heads": [2, 2, 3], "ffn_ratio": 1.0, "depth": 4})
    with pytest.raises(ValueError, match="one of each for each layer"):
        Subnet(16, (2, 2), (1.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 256}, r"search_space\.hidden_size=256: give a list"),
        ({"published": "smallest"}, r"search_space\.published=smallest: give the sizes"),
        ({"ffn_ratio": ["a"]}, r"search_space\.ffn_ratio=\['a'\]: give a list of different numbers above 0"),
        ({"depth": [10.5, 12]}, r"search_space\.depth=\[10\.5, 12\]: give a list of different whole numbers"),
    ],
)
def test_what_is_no_choice_of_numbers_is_refused_by_name(changes, message):
    space = {
        "hidden_size": [256],
        "num_attention_heads": [4],
        "ffn_ratio": [3.0],
        "depth": [12],
        "published": {"hidden_size": 256, "num_attention_heads": 4, "ffn_ratio": 3.0, "depth": 12},
    }
    assert SearchSpace.from_dict(space).count() == 1
    with pytest.raises(UserError, match=message):
        SearchSpace.from_dict({**space, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 12.0}, r"subnet\.depth=12\.0: give a whole number"),
        ({"depth": 0}, r"subnet\.depth=0"),
        ({"depth": [12]}, r"subnet\.depth=\[12\]: give a whole number"),
        ({"hidden_size": "384"}, r"subnet\.hidden_size=384: give a whole number"),
    ],
)
def test_a_subnet_of_no_numbers_is_refused_by_name(changes, message):
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "ffn_ratio": 3, "depth": 12}
    assert Subnet.from_dict(sizes).depth == 12
    with pytest.raises(UserError, match=message):
        Subnet.from_dict({**sizes, **changes})


def test_lists_make_the_same_record_as_tuples():
    assert hash(Subnet(256, [4, 4], [3.0, 3.0])) == hash(Subnet(256, (4, 4), (3.0, 3.0)))
