"""Learning rate over the steps of a run."""

from collections.abc import Callable


def linear_warmup_and_decay(max_steps: int, warmup_share: float) -> Callable[[int], float]:
    """Factor on the peak learning rate: up in a straight line, then down to 0 at the end (DistilHuBERT: 7 % up).

    Args:
        max_steps: optimizer steps of the run.
        warmup_share: part of them that goes up.

    Returns:
        Function from the number of steps done to a factor; the step that follows uses it. The first step gets
        1 / warm-up steps, not 0, as in the published trainer.
    """
    warmup_steps = max(1, round(max_steps * warmup_share))

    def factor(steps_done: int) -> float:
        step = steps_done + 1
        if step <= warmup_steps:
            return step / warmup_steps
        return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))

    return factor
