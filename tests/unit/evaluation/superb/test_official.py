"""Official corpora: small trees of the same shape give s3prl's tables, what is missing is named."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.official import EXPECTED, official_data
from speechdistill.evaluation.superb.tables import COLUMNS, TRIAL_COLUMNS
from speechdistill.evaluation.superb.tasks import TASKS

SOUND = 0.1 * np.random.default_rng(0).standard_normal(1600)


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, SOUND, 16000)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def librispeech(root: Path) -> None:
    text(root / "SPEAKERS.TXT", ";ID |SEX| SUBSET |MINUTES| NAME\n1 | F | train-clean-100 | 1 | A B\n")
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        sound(root / part / "1" / "2" / "1-2-0000.flac")
        text(root / part / "1" / "2" / "1-2.trans.txt", "1-2-0000 NULL NA\n")
    text(root / "librispeech-lexicon-200k-g2p.txt", "NULL\tN AH L\n")
    text(root / "librispeech-lexicon-allothers-g2p.txt", "NA N AA\n")


def speech_commands(root: Path) -> None:
    for number in range(12):
        sound(root / "speech_commands_v0.01" / "yes" / f"{number}_nohash_0.wav")
    sound(root / "speech_commands_v0.01" / "_background_noise_" / "noise.wav")
    sound(root / "speech_commands_test_set_v0.01" / "yes" / "1_nohash_0.wav")


def voxceleb(root: Path) -> None:
    lines = []
    for split, speaker, folder in ((1, 10001, "dev"), (2, 10001, "dev"), (3, 10001, "dev"), (3, 10270, "test")):
        name = f"id{speaker}/clip{split}/00001.wav"
        sound(root / folder / "wav" / name)
        lines.append(f"{split} {name}\n")
    text(root / "iden_split.txt", "".join(lines))
    name = "id10270/clip3/00001.wav"
    text(root / "voxceleb1_test_v2.txt", f"1 {name} {name}\n0 {name} {name}\n")


def mixtures(root: Path) -> None:
    for part in ("train", "dev", "test"):
        sound(root / f"{part}.wav")
        files = {
            "wav.scp": f"r {root}/{part}.wav",
            "segments": "u r 0.0 0.05",
            "utt2spk": "u s",
            "spk2utt": "s u",
            "reco2dur": "r 0.1",
        }
        for name, line in files.items():
            text(root / part / name, line + "\n")


def intents(root: Path) -> None:
    sound(root / "wavs" / "a.wav")
    for part in ("train", "valid", "test"):
        row = "0,wavs/a.wav,s,hello,activate,none,None\n"
        text(root / "data" / f"{part}_data.csv", ",path,speakerId,transcription,action,object,location\n" + row)


def snips(root: Path) -> None:
    lines = []
    for part, speaker in (("train", "Ivy"), ("valid", "Aditi"), ("test", "Brian")):
        name = f"{speaker}-snips-{part}-0"
        sound(root / part / f"{name}.wav")
        lines.append(f"{name} BOS PLAY NA EOS\tO O B-artist PlayMusic\n")
    text(root / "all.iob.snips.txt", "".join(lines))


TREES = {
    "asr": librispeech,
    "pr": librispeech,
    "ks": speech_commands,
    "sid": voxceleb,
    "asv": voxceleb,
    "sd": mixtures,
    "ic": intents,
    "sf": snips,
}


@pytest.mark.parametrize("task", TREES)
def test_a_tree_of_the_corpus_becomes_tables(task: str, tmp_path: Path) -> None:
    TREES[task](tmp_path / "root")
    (data,) = official_data(task, {"root": str(tmp_path / "root"), "fold": None, "num_workers": 0}, tmp_path / "out")
    assert data.train is not None
    assert (data.valid is None) == (task == "asv")
    for path in filter(None, (data.train, data.valid, *data.tests)):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        wanted = TRIAL_COLUMNS if task == "asv" and path in data.tests else COLUMNS[task]
        assert rows
        assert set(wanted) <= set(rows[0])
        assert all(Path(row[name]).is_file() for row in rows for name in row if name.startswith("wav_path"))


@pytest.mark.parametrize("task", TASKS)
def test_what_is_missing_is_named_and_so_is_what_is_expected(task: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        official_data(task, {"root": str(tmp_path), "fold": None, "num_workers": 0}, tmp_path / "out")
    said = str(raised.value)
    assert f"{EXPECTED[task][0].path} is missing" in said
    assert TASKS[task].corpus in said
    assert all(part.path in said and part.what in said for part in EXPECTED[task])


def test_a_part_that_is_empty_is_one_message(tmp_path: Path) -> None:
    voxceleb(tmp_path)
    (tmp_path / "dev" / "wav" / "id10001" / "clip1" / "00001.wav").unlink()
    with pytest.raises(UserError, match="s3prl cannot read VoxCeleb1 there"):
        official_data("asv", {"root": str(tmp_path), "fold": None, "num_workers": 0}, tmp_path / "out")
