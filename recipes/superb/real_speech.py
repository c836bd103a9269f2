"""Three tasks out of small sets of real recordings, as tables for `data=manifest`.

    python recipes/superb/real_speech.py SPEECH_DIR TREE OUT_DIR

SPEECH_DIR holds digits.csv (path, digit, speaker, split) and wakewords.csv (path, keyword, split); TREE is one in
LibriSpeech's layout. Writes OUT_DIR/{ks,sid,asr}/{train,valid,test}.csv with absolute paths:

ks    thirteen classes, the ten digits and the wake words. No speaker of digits is in two parts: the last two by name
      are tested, the one before validates.
sid   the digits' speakers. Of each speaker and digit the recordings of the set's own test split are tested, and every
      tenth of the others validates.
asr   the tree's train-clean-100, dev-clean and test-clean, where it has no SPEAKERS.TXT for `data=official`.
"""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

PARTS = ("train", "valid", "test")
Row = tuple[str, Path, str]  # part, path, label or text


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keywords(speech: Path, digits: list[dict[str, str]], wakewords: list[dict[str, str]]) -> Iterable[Row]:
    """Digits by speaker, wake words by their own splits."""
    speakers = sorted({row["speaker"] for row in digits})
    part = dict.fromkeys(speakers, "train") | {speakers[-3]: "valid"} | dict.fromkeys(speakers[-2:], "test")
    yield from ((part[row["speaker"]], speech / row["path"], f"digit {row['digit']}") for row in digits)
    own = {"train": "train", "dev": "valid", "test": "test"}
    yield from ((own[row["split"]], speech / row["path"], row["keyword"]) for row in wakewords)


def speakers(speech: Path, digits: list[dict[str, str]]) -> Iterable[Row]:
    """Every speaker is in every part."""
    for number, row in enumerate(sorted(digits, key=lambda row: row["path"])):
        part = "test" if row["split"] == "test" else "valid" if number % 10 == 0 else "train"
        yield part, speech / row["path"], row["speaker"]


def sentences(tree: Path) -> Iterable[Row]:
    """Recordings with their text, from the files FOLDER.trans.txt."""
    for part, name in zip(PARTS, ("train-clean-100", "dev-clean", "test-clean"), strict=True):
        for file in sorted((tree / name).rglob("*.trans.txt")):
            for line in file.read_text(encoding="utf-8").splitlines():
                number, _, text = line.partition(" ")
                yield part, file.parent / f"{number}.flac", text


def main() -> None:
    """Write the nine files."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    speech, tree, out = (Path(word).expanduser().resolve() for word in sys.argv[1:])
    digits, wakewords = read(speech / "digits.csv"), read(speech / "wakewords.csv")
    tasks = {
        "ks": list(keywords(speech, digits, wakewords)),
        "sid": list(speakers(speech, digits)),
        "asr": list(sentences(tree)),
    }
    for task, rows in tasks.items():
        (out / task).mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            chosen = [(path, label) for of, path, label in rows if of == part]
            with (out / task / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(("id", "wav_path", "transcription" if task == "asr" else "label"))
                writer.writerows(("_".join(path.with_suffix("").parts[-3:]), path, label) for path, label in chosen)
            print(f"{task} {part}: {len(chosen)} recordings, {len({label for _, label in chosen})} labels or texts")


if __name__ == "__main__":
    main()
