"""History, latency, Pareto fronts and the measure that compares students of different kinds."""

from pathlib import Path

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.searching.budget import Budget, Stopwatch, formula_costs
from speechdistill.searching.history import Trial, append, read
from speechdistill.searching.linear_fit import best_unexplained, unexplained
from speechdistill.searching.pareto import Point, pareto_front, plot_pareto
from tests.supernets import TINY_SPACE, space, tiny_supernet

TRIALS = [
    Trial("smallest", TINY_SPACE.smallest(), 10, 20, 0.1 + 0.2, 1 / 3),
    Trial("random", TINY_SPACE.draw(torch.Generator().manual_seed(0)), 11, 21, 7.0, None),
    Trial("mutation", TINY_SPACE.published, 12, 22, 8.0, 0.25),
]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "tried.csv"
    for number, trial in enumerate(TRIALS):
        append(path, number, trial)
    assert read(path, TINY_SPACE) == TRIALS
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):  # killed within the last line
        path.write_bytes(whole[:-cut])
        assert read(path, TINY_SPACE) == TRIALS[:2]
    append(path, 2, TRIALS[2])
    assert path.read_bytes() == whole
    path.write_bytes(whole[:20])  # killed within the first
    assert read(path, TINY_SPACE) == []
    assert not path.exists()


def test_a_history_of_something_else_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "tried.csv"
    for number, trial in enumerate(TRIALS):
        append(path, number, trial)
    with pytest.raises(UserError, match="line 2 is not what this search has written: the subnet has depth 4"):
        read(path, space("base"))
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="its first line is not that of a search"):
        read(path, TINY_SPACE)


def test_budgets() -> None:
    budget = Budget(max_params=100, max_latency_ms=5.0)
    assert budget.allows(100, 10**12, 5.0)
    assert not budget.allows(101, 0, 0)
    assert not budget.allows(1, 0, 5.1)
    supernet = tiny_supernet()
    params, macs = formula_costs(supernet, TINY_SPACE.smallest())
    Budget(params, macs).check_smallest(supernet, Stopwatch())
    with pytest.raises(UserError, match=rf"max_params={params - 1}: .* has {params:,} parameters, {macs:,} mult"):
        Budget(params - 1).check_smallest(supernet, Stopwatch())
    with pytest.raises(UserError, match=r"max_latency_ms=0.0001: .* takes .* ms for 1 x 0.1 s of audio on cpu"):
        Budget(max_latency_ms=1e-4).check_smallest(supernet, Stopwatch(seconds=0.1, repeats=1))
    for wrong in (0, -1, "tiny", float("nan"), True):
        with pytest.raises(UserError, match="max_macs="):
            Budget(max_macs=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("clock", ["wall", "processor"])
def test_twice_the_audio_takes_longer(clock: str) -> None:
    student = tiny_supernet().extract(TINY_SPACE.largest())
    threads = torch.get_num_threads()
    short, long = (Stopwatch(seconds, repeats=5, clock=clock)(student) for seconds in (0.5, 20.0))
    assert 0 < 2 * short < long
    assert torch.get_num_threads() == threads


def test_the_front_is_what_nothing_beats(tmp_path: Path) -> None:
    costs, losses = [3.0, 1.0, 2.0, 2.0, 4.0, 1.0], [0.2, 0.5, 0.6, 0.3, 0.25, 0.5]
    assert pareto_front(costs, losses) == [1, 3, 0]
    points = [Point((c, c, c), loss, "name" if c == 3 else "") for c, loss in zip(costs, losses, strict=True)]
    plot_pareto(points, (2.5, None, None), "loss", "title", tmp_path / "plots" / "pareto.png")
    assert (tmp_path / "plots" / "pareto.png").stat().st_size > 5000


def test_unexplained_variance_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 6, generator=generator)
    noise = torch.randn(4000, 1, 3, generator=generator)
    signal = (x[:, :3] * 2 + 5)[:, None]
    y = torch.cat([signal, signal + 2 * noise, noise], 1)  # all, half and nothing of it is linear in x
    (judged,) = unexplained(x[:2000], y[:2000], (x[2000:], y[2000:]))
    assert judged[0] < 1e-6
    assert judged[1:].tolist() == pytest.approx([0.5, 1.0], abs=0.03)
    # An invertible map of the features and another scale of the targets change nothing.
    mixed = x @ torch.randn(6, 6, generator=generator)
    (turned,) = unexplained(mixed[:2000], 9 * y[:2000], (mixed[2000:], 9 * y[2000:]))
    assert turned.tolist() == pytest.approx(judged.tolist(), abs=0.01)


def test_each_teacher_layer_has_its_best_student_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    useless, useful = (torch.randn(400, 4, generator=generator) for _ in range(2))
    x, y = torch.stack([useless, useful], 1), torch.stack([useful, 3 * useful, useless], 1)
    assert max(best_unexplained(x[:200], y[:200], x[200:], y[200:])) < 1e-6
    only = best_unexplained(x[:200, :1], y[:200], x[200:, :1], y[200:])
    assert only[0] > 0.9
    assert only[2] < 1e-6
