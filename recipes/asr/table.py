"""Word error rates of runs as a table.

python recipes/asr/table.py RUN ...                    a row for each run
python recipes/asr/table.py RUN ... --together NAME    one row for all of them: their test sets as one
"""

import csv
import json
import sys
from pathlib import Path

from speechdistill.recognition.word_errors import Errors, count_errors


def errors_of(runs: list[Path]) -> Errors:
    """The errors of the runs' hypotheses, as of one set."""
    references, hypotheses = [], []
    for run in runs:
        (path,) = run.glob("hypotheses_*.tsv")
        with path.open() as file:
            for row in csv.DictReader(file, delimiter="\t"):
                references.append(row["reference"])
                hypotheses.append(row["hypothesis"])
    return count_errors(references, hypotheses)


def line(name: str, runs: list[Path]) -> str:
    """One row of the table."""
    errors = errors_of(runs)
    low, high = errors.wer_interval()
    student = json.loads((runs[0] / "summary.json").read_text())["student"]
    return (
        f"| {name} | {student['params'] / 1e6:.2f} ({student['params_trained'] / 1e6:.2f}) | {len(errors.words)} | "
        f"{errors.words.sum()} | {100 * errors.wer:.1f} ({100 * low:.1f}-{100 * high:.1f}) | {100 * errors.cer:.1f} |"
    )


def main(words: list[str]) -> None:
    """Print the table."""
    if "--together" in words:
        place = words.index("--together")
        print(line(words[place + 1], [Path(word) for word in words[:place]]))
        return
    print("| | M parameters (trained) | utterances | words | WER % (95 %) | CER % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for word in words:
        print(line(Path(word).name, [Path(word)]))


if __name__ == "__main__":
    main(sys.argv[1:])
