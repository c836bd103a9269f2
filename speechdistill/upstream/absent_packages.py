"""Packages that s3prl 0.4.18 imports and that no longer install; what it takes from each, where it is missing.

pip 24.1 and later refuse the metadata of catalyst, and editdistance has no wheels for Python 3.13 and later.
"""

import random
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DistributedSampler, Sampler

from speechdistill.upstream.random_state import unchanged_random_state


class DistributedSamplerWrapper(DistributedSampler[Any]):
    """The part of one process in what another sampler draws.

    All processes must draw the same list for their parts to make up one epoch. So each draws the whole list from the
    seed of the epoch, the caller's random state aside, and keeps the places that torch's DistributedSampler gives it.

    Args:
        sampler: any sampler with a length.
        num_replicas: processes; those of the default process group by default.
        rank: the place of this process among them; by default, its place in the group.
        shuffle: put the list in another order each epoch, as told by `set_epoch`.
    """

    def __init__(
        self, sampler: Sampler[Any], num_replicas: int | None = None, rank: int | None = None, shuffle: bool = True
    ) -> None:
        super().__init__(sampler, num_replicas=num_replicas, rank=rank, shuffle=shuffle)  # type: ignore[arg-type]
        self.sampler = sampler

    def __iter__(self) -> Iterator[Any]:
        seed = self.seed + self.epoch
        with unchanged_random_state():
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (what a sampler may draw from)
            torch.manual_seed(seed)
            drawn = list(self.sampler)
        return iter([drawn[place] for place in super().__iter__()])


def install() -> None:
    """Put the names in place, of packages that are not installed."""
    if find_spec("catalyst") is None:
        for name in ("catalyst", "catalyst.data", "catalyst.data.sampler"):
            module = _add_module(name, is_package=name != "catalyst.data.sampler")
        module.DistributedSamplerWrapper = DistributedSamplerWrapper
    # Without rapidfuzz, which the extra brings, s3prl says itself what it lacks.
    if find_spec("editdistance") is None and find_spec("rapidfuzz") is not None:
        from rapidfuzz.distance import Levenshtein

        module = _add_module("editdistance")
        module.eval = module.distance = Levenshtein.distance


def _add_module(name: str, is_package: bool = False) -> Any:
    module: ModuleType = module_from_spec(ModuleSpec(name, loader=None, is_package=is_package))
    sys.modules[name] = module
    parent, _, short = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], short, module)
    return module
