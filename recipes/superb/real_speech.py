"""Keyword spotting and speaker identification out of small sets of real recordings, as tables for `data=manifest`.

    python recipes/superb/real_speech.py SPEECH_DIR OUT_DIR

SPEECH_DIR holds digits.csv (path, digit, speaker, split) and wakewords.csv (path, keyword, split). Writes
OUT_DIR/{ks,sid}/{train,valid,test}.csv with absolute paths:

ks    thirteen classes, the ten digits and the wake words. No speaker of digits is in two parts: the last two by name
      are tested, the one before validates.
sid   the digits' speakers. Of each speaker and digit the recordings of the set's own test split are tested, and every
      tenth of the others validates.
"""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

PARTS = ("train", "valid", "test")
Row = tuple[str, str, str]  # part, path, label


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keywords(digits: list[dict[str, str]], wakewords: list[dict[str, str]]) -> Iterable[Row]:
    """Digits by speaker, wake words by their own splits."""
    speakers = sorted({row["speaker"] for row in digits})
    part = dict.fromkeys(speakers, "train") | {speakers[-3]: "valid"} | dict.fromkeys(speakers[-2:], "test")
    yield from ((part[row["speaker"]], row["path"], f"digit {row['digit']}") for row in digits)
    own = {"train": "train", "dev": "valid", "test": "test"}
    yield from ((own[row["split"]], row["path"], row["keyword"]) for row in wakewords)


def speakers(digits: list[dict[str, str]]) -> Iterable[Row]:
    """Every speaker is in every part."""
    for number, row in enumerate(sorted(digits, key=lambda row: row["path"])):
        part = "test" if row["split"] == "test" else "valid" if number % 10 == 0 else "train"
        yield part, row["path"], row["speaker"]


def main() -> None:
    """Write the six files."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    speech, out = (Path(word).expanduser().resolve() for word in sys.argv[1:])
    digits, wakewords = read(speech / "digits.csv"), read(speech / "wakewords.csv")
    for task, rows in (("ks", list(keywords(digits, wakewords))), ("sid", list(speakers(digits)))):
        (out / task).mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            chosen = [(path, label) for of, path, label in rows if of == part]
            with (out / task / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(("id", "wav_path", "label"))
                writer.writerows((path.replace("/", "_"), speech / path, label) for path, label in chosen)
            print(f"{task} {part}: {len(chosen)} recordings, {len({label for _, label in chosen})} labels")


if __name__ == "__main__":
    main()
