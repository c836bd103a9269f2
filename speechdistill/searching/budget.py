"""What a student may cost: parameters, multiply-accumulates and milliseconds, by formula and by the clock."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.cost_formula import macs_per_second, num_params
from speechdistill.models.search_space import Subnet
from speechdistill.models.slicing import subnet_config
from speechdistill.models.student import StudentModel
from speechdistill.models.supernet import Supernet

_WARM_UP_PASSES = 2
CLOCKS = {"wall": time.perf_counter, "processor": time.thread_time}


@dataclass(frozen=True)
class Budget:
    """The most that a student may cost; None = no limit.

    Attributes:
        max_params: parameters of the bare student.
        max_macs: multiply-accumulates for each second of audio, in an utterance of 10 s.
        max_latency_ms: of one pass, as `Stopwatch` measures it.

    Raises:
        UserError: a limit that is no number above 0.
    """

    max_params: float | None = None
    max_macs: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and (type(limit) not in (int, float) or not limit > 0):
                raise UserError(f"{name}={limit}: give a number above 0, or null for no limit.")

    def allows(self, params: float, macs: float, latency_ms: float = 0.0) -> bool:
        """Whether a student of such costs meets every limit."""
        limits = ((params, self.max_params), (macs, self.max_macs), (latency_ms, self.max_latency_ms))
        return all(limit is None or cost <= limit for cost, limit in limits)

    def check_smallest(self, supernet: Supernet, stopwatch: "Stopwatch") -> None:
        """Refuse a budget that the smallest subnet does not meet: then none does.

        Raises:
            UserError: with what the smallest subnet costs.
        """
        smallest = supernet.space.smallest()
        params, macs = formula_costs(supernet, smallest)
        slow = self.max_latency_ms is not None
        latency_ms = stopwatch(supernet.extract(smallest)) if slow else 0.0
        if self.allows(params, macs, latency_ms):
            return
        passed = f" and takes {latency_ms:.1f} ms {stopwatch.describe()}" if slow else ""
        raise UserError(
            f"{self.describe()}: no subnet meets that. The smallest ({describe(smallest)}) has {params:,} parameters, "
            f"{macs:,} multiply-accumulates a second{passed}. Allow at least so much."
        )

    def describe(self) -> str:
        """The limits as the words that set them."""
        return " ".join(f"{name}={limit:g}" for name, limit in vars(self).items() if limit is not None) or "no limits"


@dataclass(frozen=True)
class Stopwatch:
    """Times one pass of a student over noise: the median of several, after two to warm up.

    Attributes:
        seconds: of audio.
        batch: recordings at once.
        threads: of the CPU.
        repeats: passes that are timed.
        device: "cpu", "cuda" ...
        clock: "wall"; or "processor", the time that one thread computes, which other jobs of a busy machine lengthen
            less.
    """

    seconds: float = 5.0
    batch: int = 1
    threads: int = 1
    repeats: int = 5
    device: str = "cpu"
    clock: str = "wall"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Stopwatch":
        """Read the keys of `latency`.

        Raises:
            UserError: a value out of range.
        """
        for name in ("batch", "threads", "repeats"):
            if type(config[name]) is not int or config[name] < 1:
                raise UserError(f"latency.{name}={config[name]}: give a whole number from 1 up.")
        if not config["seconds"] >= 0.1:
            raise UserError(f"latency.seconds={config['seconds']}: give at least 0.1.")
        if config["clock"] not in CLOCKS:
            raise UserError(f"latency.clock={config['clock']}: allowed are {', '.join(CLOCKS)}.")
        if config["clock"] == "processor" and (config["threads"] > 1 or config["device"] != "cpu"):
            raise UserError("latency.clock=processor is the time of one thread: latency.threads=1 latency.device=cpu.")
        check_device("latency.device", config["device"])
        return cls(**config)

    @torch.inference_mode()
    def __call__(self, student: StudentModel) -> float:
        """Milliseconds of a pass; the student stays where it was."""
        waveforms = 0.1 * torch.randn(
            self.batch, round(self.seconds * SAMPLE_RATE_HZ), generator=torch.Generator().manual_seed(0)
        )
        waveforms = waveforms.to(self.device)
        before, home = torch.get_num_threads(), next(student.parameters()).device
        torch.set_num_threads(self.threads)
        student.to(self.device)
        try:
            return 1000 * statistics.median(
                [self._pass(student, waveforms) for _ in range(self.repeats + _WARM_UP_PASSES)][_WARM_UP_PASSES:]
            )
        finally:
            student.to(home)
            torch.set_num_threads(before)

    def _pass(self, student: StudentModel, waveforms: torch.Tensor) -> float:
        begun = CLOCKS[self.clock]()
        student.encode(waveforms)
        if waveforms.is_cuda:
            torch.cuda.synchronize()
        return CLOCKS[self.clock]() - begun

    def describe(self) -> str:
        """How it measures, in words."""
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        clock = ", processor time" if self.clock == "processor" else ""
        return f"for {self.batch} x {self.seconds:g} s of audio on {self.device}{threads}{clock}"


def formula_costs(supernet: Supernet, subnet: Subnet) -> tuple[int, int]:
    """Parameters and multiply-accumulates a second of the student that a subnet is, without building it."""
    config = subnet_config(supernet.config, subnet)
    return num_params(config), macs_per_second(config)


def describe(subnet: Subnet) -> str:
    """The sizes of a subnet in words."""
    heads = " ".join(map(str, subnet.num_attention_heads))
    ratios = " ".join(f"{ratio:g}" for ratio in subnet.ffn_ratios)
    return f"{subnet.depth} layers of {subnet.hidden_size}, heads {heads}, feed-forward ratios {ratios}"


def check_device(key: str, device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        UserError: with the name of the key.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"{key}={device}: this machine cannot compute on it. Give cpu, or cuda where there is a GPU."
        ) from error
