"""Puts the upstream among s3prl's, and hands command lines over to s3prl."""

import functools
import importlib
import multiprocessing
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from speechdistill.errors import UserError
from speechdistill.upstream import torchaudio_compat
from speechdistill.upstream.expert import UpstreamExpert
from speechdistill.upstream.random_state import unchanged_random_state

NAME = "speechdistill"


def register(name: str = NAME) -> None:
    """Make `name` an upstream of s3prl, which is imported here; a second call changes nothing.

    Raises:
        UserError: s3prl, or something that it needs, is missing or half-imported.
    """
    torchaudio_compat.install()
    try:
        hub = importlib.import_module("s3prl.hub")
        upstream: Any = importlib.import_module("s3prl.nn.upstream")
    except ImportError as error:
        raise UserError(f"s3prl cannot be imported: {error}. Run pip install 'speechdistill[superb]'.") from error
    setattr(hub, name, entry)
    # S3PRLUpstream tries an upstream out on noise that it draws after seeding everything with 0: the same noise stays,
    # without the seed, so that what a caller seeded is what its head starts from.
    if not hasattr(upstream.get_pseudo_wavs, "__wrapped__"):
        upstream.get_pseudo_wavs = _without_reseeding(upstream.get_pseudo_wavs)


def entry(*arguments: Any, **options: Any) -> UpstreamExpert:
    """What s3prl calls by the upstream's name; arguments and errors as of `UpstreamExpert`."""
    return UpstreamExpert(*arguments, **options)


def hand_over(program: str, words: Sequence[str]) -> None:
    """Run one of s3prl's own command lines in this process, with our upstream known to it.

    Args:
        program: `run_downstream` or `main`.
        words: what that program takes.

    Raises:
        UserError: s3prl is missing.
    """
    register()
    before = sys.argv
    sys.argv = [program, *words]
    try:
        # alter_sys: what run_downstream pickles belongs to __main__.
        with forked_processes():
            runpy.run_module(f"s3prl.{program}", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = before


@contextmanager
def forked_processes() -> Iterator[None]:
    """Let processes be forked, as Linux did up to Python 3.13: what s3prl gives its own cannot be sent to others."""
    before = multiprocessing.get_start_method(allow_none=True)
    if sys.platform == "linux":
        multiprocessing.set_start_method("fork", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


def _without_reseeding(draw: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Any:
        with unchanged_random_state():
            return draw(*arguments, **options)

    return drawn
