"""A profile for people: Markdown tables, one CSV file, one picture."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from speechdistill.evaluation.profiling import SUPERB_HUBERT_BASE_GIGA_MACS, Case, Measured, superb_giga_macs
from speechdistill.plotting import legend_below, log_axis, plt, save
from speechdistill.whole_file import whole_file

_COLUMNS = [
    *("encoder", "parameters", "macs_per_second", "precision", "batch", "seconds"),
    *("latency_seconds", "real_time_factor", "peak_bytes"),
]
Counts = Mapping[str, Mapping[str, int]]
Times = Mapping[str, Mapping[Case, Measured]]


def counts_table(counts: Counts) -> str:
    """Parameters by part and multiply-accumulates, an encoder a column."""
    names = list(counts)
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for key in next(iter(counts.values())):
        if key != "macs_per_second":
            lines.append(f"| {key} | {' | '.join(f'{counts[name][key]:,}' for name in names)} |")
    macs = [counts[name]["macs_per_second"] for name in names]
    lines.append(f"| G MACs per second of audio, in 10 s | {' | '.join(f'{value / 1e9:.2f}' for value in macs)} |")
    superb = " | ".join(f"{superb_giga_macs(value):.0f}" for value in macs)
    lines.append(f"| the same as a share of HuBERT Base's {SUPERB_HUBERT_BASE_GIGA_MACS} (SUPERB's scale) | {superb} |")
    return "\n".join(lines)


def times_table(times: Times) -> str:
    """Latency, real-time factor and memory, a length of audio a column."""
    cases = list(next(iter(times.values())))
    lengths = sorted({case.seconds for case in cases})
    kinds = list(dict.fromkeys((case.precision, case.batch) for case in cases))
    heads = " | ".join(f"{length:g} s" for length in lengths)
    lines = [f"| | precision | batch | {heads} |", f"| --- | --- | ---: |{' ---: |' * len(lengths)}"]
    for precision, batch in kinds:
        for name, measured in times.items():
            cells = [_cell(measured.get(Case(precision, batch, length))) for length in lengths]
            lines.append(f"| {name} | {precision} | {batch} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(measured: Measured | None) -> str:
    if measured is None:
        return ""
    memory = "" if measured.peak_bytes is None else f"; {measured.peak_bytes / 2**20:,.0f} MiB"
    return f"{measured.latency_seconds:.3f} s ({measured.real_time_factor:.4f}){memory}"


def write_csv(counts: Counts, times: Times, path: Path) -> None:
    """Write a row for each encoder and case."""
    with whole_file(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for name, measured in times.items():
            known = [name, counts[name]["parameters"], counts[name]["macs_per_second"]]
            for case, value in measured.items():
                peak = "" if value.peak_bytes is None else value.peak_bytes
                took = [f"{value.latency_seconds:.6f}", f"{value.real_time_factor:.6f}", peak]
                rows.writerow([*known, case.precision, case.batch, f"{case.seconds:g}", *took])


def plot(times: Times, path: Path) -> None:
    """Draw real-time factor and peak memory over the length of the audio, a batch size a column."""
    cases = list(next(iter(times.values())))
    batches = sorted({case.batch for case in cases})
    precisions = list(dict.fromkeys(case.precision for case in cases))
    figure, axes = plt.subplots(
        2, len(batches), figsize=(4.6 * len(batches), 6.2 + 0.2 * len(times)), squeeze=False, layout="constrained"
    )
    for column, batch in enumerate(batches):
        for color, (name, measured) in enumerate(times.items()):
            for precision, style in zip(precisions, ("-o", "--s"), strict=False):
                mine = {
                    case.seconds: value
                    for case, value in measured.items()
                    if (case.batch, case.precision) == (batch, precision)
                }
                lengths: Sequence[float] = sorted(mine)
                factors = [mine[length].real_time_factor for length in lengths]
                peaks = [(mine[length].peak_bytes or 0) / 2**20 for length in lengths]
                for row, values in enumerate((factors, peaks)):
                    axes[row][column].plot(lengths, values, style, color=f"C{color}", label=f"{name}, {precision}")
        axes[0][column].set(title=f"batch {batch}", ylabel="real-time factor")
        axes[1][column].set(xlabel="seconds of audio", ylabel="peak memory, MiB")
        for row in range(2):
            axes[row][column].grid(alpha=0.3)
            log_axis(axes[row][column])
    legend_below(figure, axes[0][0], len(batches))
    save(figure, path)
