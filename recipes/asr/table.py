"""Word error rates of runs as a table.

python recipes/asr/table.py RUN ...                    a row for each run
python recipes/asr/table.py RUN ... --together NAME    one row for all of them, each of another speaker

The interval is by bootstrap over utterances, that of several runs by bootstrap over speakers: of the six there, who are
few, and each row's validation set, by which its weights are chosen, is of one speaker.
"""

import csv
import json
import sys
from pathlib import Path

from speechdistill.recognition.word_errors import Errors, count_errors


def errors_of(runs: list[Path]) -> tuple[Errors, list[str]]:
    """The errors of the runs' hypotheses, as of one set; the run of each utterance."""
    references, hypotheses, origins = [], [], []
    for run in runs:
        (path,) = run.glob("hypotheses_*.tsv")
        with path.open() as file:
            for row in csv.DictReader(file, delimiter="\t"):
                references.append(row["reference"])
                hypotheses.append(row["hypothesis"])
                origins.append(str(run))
    return count_errors(references, hypotheses), origins


def line(name: str, runs: list[Path]) -> str:
    """One row of the table."""
    errors, origins = errors_of(runs)
    low, high = errors.wer_interval(speakers=origins if len(runs) > 1 else None)
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
