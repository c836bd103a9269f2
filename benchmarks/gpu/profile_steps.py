"""A profile of three steps of DistilHuBERT: where the time goes, and a trace for Perfetto (ui.perfetto.dev)."""

import tempfile
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from recipes import Step, Words, make_module, noise_batch, table, wait, write_part

STEPS = 3
ROWS = 25


def main() -> None:
    """Warm up, profile, write."""
    words = Words()
    with tempfile.TemporaryDirectory() as name:
        module = make_module("distilhubert", Path(name), words)
    train = Step(module, words.device)
    batch = noise_batch(words.either(24, 1), words.either(15, 1), words.device)
    for _ in range(3):
        train(batch)
    wait(words.device)
    on_gpu = words.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, record_shapes=False) as profiler:
        for _ in range(STEPS):
            train(batch)
        wait(words.device)
    trace = words.out.with_name("trace.json.gz")
    profiler.export_chrome_trace(str(trace))

    def time_of(event: object) -> float:
        return float(getattr(event, "self_device_time_total" if on_gpu else "self_cpu_time_total"))

    events = profiler.key_averages()
    # On a GPU the kernels themselves; their operators would count the same time again.
    counted = [event for event in events if not on_gpu or str(event.device_type).endswith("CUDA")]
    total = sum(time_of(event) for event in counted)
    rows = [
        [event.key[:90], event.count // STEPS, f"{time_of(event) / STEPS / 1000:.3f}", f"{share:.1f} %"]
        for event in sorted(counted, key=time_of, reverse=True)[:ROWS]
        for share in [100 * time_of(event) / max(total, 1e-9)]
    ]
    head = ["kernel" if on_gpu else "operator", "times a step", "ms a step", "share"]
    notes = [f"{total / STEPS / 1000:.2f} ms of device time a step; the trace is {trace.name}."]
    write_part(words.out, [table("", head, rows)], notes, device_ms=total / STEPS / 1000)


if __name__ == "__main__":
    main()
