"""How much faster a SUPERB task trains on cached states: `python benchmarks/superb_cache.py [upstream=mini] [task=sf]`.

Runs the demo task three times with one seed: each recording encoded alone in every step, the same while the cache
fills, and with the cache full. Prints a table for RESULTS.md: processor time of the whole task, wall time of training
and test, the ratio of processor times (which other jobs of a busy machine lengthen less), the metrics.
"""

import sys
import tempfile
import time
from pathlib import Path

from speechdistill import cli
from speechdistill.superb import read_configs

ROWS = (
    ("encoder in every step", "features.alone=true", ""),
    ("cache, filled on the way", "", "cache"),
    ("cache, filled before", "", "cache"),
)


def main(words: list[str]) -> None:
    """Measure and print."""
    _, given = cli.read_words(words, ("upstream", "task", "steps", "hours"))
    task = given.get("task", "sf")
    from speechdistill.evaluation.superb.run_folder import chosen_folder, open_folders
    from speechdistill.evaluation.superb.running import run_task

    lines = ["| states | processor s | wall s | ratio | metrics |", "| --- | --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as name:
        first = None
        for number, (row, alone, cache) in enumerate(ROWS):
            run = [f"task={task}", f"upstream={given.get('upstream', 'mini')}", f"out_dir={name}/{number}"]
            run += [word for word in (alone, f"features.cache={name}/features" if cache else "") if word]
            run += [f"steps={given['steps']}"] if "steps" in given else []
            run += [f"data.hours={given['hours']}"] if "hours" in given else []
            configs, _ = read_configs(run)
            open_folders(chosen_folder(configs[0]), configs)
            begun = time.process_time()
            result = run_task(configs[0])
            processor = time.process_time() - begun
            first = first or processor
            metrics = ", ".join(f"{key} {value:.2f}" for key, value in result["metrics"].items())
            lines.append(
                f"| {row} | {processor:.1f} | {result['head_seconds']:.1f} | {first / processor:.1f} | {metrics} |"
            )
        size = sum(path.stat().st_size for path in Path(name, "features").rglob("*.npy"))
    print("\n".join(lines))
    print(
        f"\n{task}, {configs[0]['steps']} steps, upstream {configs[0]['upstream']}; the cache holds {size / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
