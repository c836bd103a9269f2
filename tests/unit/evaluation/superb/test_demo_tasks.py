import csv
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile

from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.demo_phones import PHONES
from speechdistill.audio.demo_text import DIGITS
from speechdistill.errors import UserError
from speechdistill.evaluation.superb.demo_tasks import demo_data
from speechdistill.evaluation.superb.demo_words import Utterance, learn_lexicon, utterances_of, words_of
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.tasks import TASKS

Demo = Callable[[str], TaskData]


def rows(path: Path | None) -> list[dict[str, str]]:
    assert path is not None
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def splits(data: TaskData) -> list[list[dict[str, str]]]:
    return [rows(path) for path in (data.train, data.valid, *data.tests)]


@pytest.fixture(scope="module")
def corpus() -> list[Utterance]:
    table = demo_corpus(hours=0.1, seed=0)
    return [one for split in ("train", "val", "test") for one in utterances_of(table, split)]


@pytest.mark.parametrize("task", TASKS)
def test_files_are_there_and_the_same_when_made_again(task: str, demo: Demo, demo_again: Demo) -> None:
    first, second = demo(task), demo_again(task)
    assert first.notes == second.notes
    assert all(note.endswith(".") for note in first.notes)
    here = first.tests[0] if task == "qbe" else first.tests[0].parent
    there = second.tests[0] if task == "qbe" else second.tests[0].parent
    files = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    for name in files:
        assert (here / name).read_bytes().replace(bytes(here), b"") == (there / name).read_bytes().replace(
            bytes(there), b""
        )


@pytest.mark.parametrize("task", [name for name in TASKS if name != "qbe"])
def test_all_sound_exists(task: str, demo: Demo) -> None:
    for row in (row for part in splits(demo(task)) if part for row in part) if task != "asv" else ():
        assert soundfile.info(row["wav_path"]).samplerate == 16000
    if task == "asv":
        assert all(Path(row["wav_path1"]).is_file() for row in rows(demo(task).tests[0]))


@pytest.mark.parametrize("task", ["pr", "asr", "ks", "ic", "sf", "er", "sd"])
def test_speakers_are_in_one_split_each(task: str, demo: Demo) -> None:
    """The folder of a recording, or the end of a clip's name, is its speaker."""
    speakers = [
        {
            row.get("speaker") or row["wav_path"].split("/")[-2].replace(name, row["id"].split("-", 3)[-1])
            for row in part
        }
        for part, name in zip(splits(demo(task)), ("train", "valid", "test"), strict=True)
    ]
    assert sum(map(len, speakers)) == len(set.union(*speakers))


@pytest.mark.parametrize(("task", "column"), [("ks", "label"), ("sid", "label"), ("er", "label"), ("sf", "iob")])
def test_what_is_asked_for_was_trained(task: str, column: str, demo: Demo) -> None:
    train, *others = ({word for row in part for word in row[column].split()} for part in splits(demo(task)))
    assert all(other <= train for other in others)
    assert all(others)


def test_phones_and_words_are_those_of_the_corpus(demo: Demo) -> None:
    row, words = rows(demo("pr").tests[0])[0], rows(demo("asr").tests[0])[0]
    assert row["transcription"] == "sh uh d w iy w aa sh m ay f l aw er b ih f ao r n uw n"
    assert words["transcription"] == "SHOULD WE WASH MY FLOWER BEFORE NOON"
    assert {phone for part in splits(demo("pr")) for row in part for phone in row["transcription"].split()} <= {
        *PHONES
    } - {"sil"}


def test_words_that_were_found_are_pronounced_as_such(corpus: list[Utterance]) -> None:
    lexicon = learn_lexicon(corpus)
    assert lexicon["SEVEN"] == {("s", "eh", "v", "ax", "n")}
    found = [(one, words) for one in corpus if (words := words_of(one, lexicon)) is not None]
    assert len(found) > 0.3 * len(corpus)
    for one, words in found:
        assert [word.text for word in words] == one.words
        assert all(first.end <= second.start for first, second in pairwise(words))
        for word in words:
            phones = tuple(phone for phone, start, _ in one.phones if word.start <= start < word.end)
            assert phones in lexicon[word.text]


def test_a_word_run_together_with_others_is_found() -> None:
    def say(words: str, *phones: str) -> Utterance:
        segments = [[phone, 100 * place, 100 * place + 100] for place, phone in enumerate(phones)]
        return Utterance(words, "", 1000, "s", words.split(), segments, "digits", [])

    lexicon = learn_lexicon([say("TWO FOUR", "sil", "t", "uw", "sil", "f", "ao"), say("FOUR", "f", "ao", "r")])
    # The longer pronunciation fits first but leaves an r of nobody's, or takes one that is the next word's.
    words = words_of(say("FOUR FOUR TWO", "sil", "f", "ao", "f", "ao", "r", "t", "uw"), lexicon)
    assert words == [("FOUR", 100, 300), ("FOUR", 300, 600), ("TWO", 600, 800)]
    assert words_of(say("FOUR TWO", "f", "ao", "uw"), lexicon) is None
    assert words_of(say("FOUR SIX", "f", "ao", "s"), lexicon) is None


def test_keywords_are_digits_other_words_and_pauses(demo: Demo) -> None:
    labels = Counter(row["label"] for row in rows(demo("ks").train))
    assert {"_silence_", "_unknown_"} < set(labels) <= {*DIGITS, "_silence_", "_unknown_"}
    assert max(labels["_silence_"], labels["_unknown_"]) <= max(labels[digit] for digit in DIGITS)


def test_intents_have_three_parts(demo: Demo) -> None:
    parts = {tuple(row["labels"].split(" ; ")) for part in splits(demo("ic")) for row in part}
    assert ("activate", "lights", "bedroom") in parts
    assert ("get", "weather", "none") in parts
    assert all(len(one) == 3 for one in parts)
    assert not any(one[0] in ("statement", "question", "digits", "words") for one in parts)


def test_each_word_has_a_tag(demo: Demo) -> None:
    for row in (row for part in splits(demo("sf")) for row in part):
        assert len(row["transcription"].split()) == len(row["iob"].split())
        assert set(row["iob"].split()) != {"O"}


def test_trials_are_balanced_and_of_two_recordings(demo: Demo) -> None:
    trials = rows(demo("asv").tests[0])
    assert Counter(row["label"] for row in trials) == {"0": len(trials) / 2, "1": len(trials) / 2}
    for row in trials:
        assert row["id1"] != row["id2"]
        assert (row["id1"].rpartition("-")[0] == row["id2"].rpartition("-")[0]) == (row["label"] == "1")
    assert not {row["spk"] for row in rows(demo("asv").train)} & {row["id1"].rpartition("-")[0] for row in trials}


def test_mixtures_have_two_speakers_who_overlap(demo: Demo) -> None:
    overlapped = 0.0
    for part in splits(demo("sd")):
        assert len({row["utt_id"] for row in part}) == len(part)
        for record in {row["record_id"] for row in part}:
            own = [row for row in part if row["record_id"] == record]
            assert len({row["speaker"] for row in own}) == 2
            length = soundfile.info(own[0]["wav_path"]).frames / 16000
            assert all(float(row["duration"]) == pytest.approx(length) for row in own)
            turns = sorted((float(row["start_sec"]), float(row["end_sec"]), row["speaker"]) for row in own)
            assert all(0 <= start < end <= length for start, end, _ in turns)
            for first, second in pairwise(turns):
                if first[2] == second[2]:
                    assert first[1] <= second[0]
                else:
                    overlapped += max(0.0, min(first[1], second[1]) - second[0])
    assert overlapped > 10


def test_rates_are_thirds_of_the_training_set(demo: Demo) -> None:
    counts = Counter(row["label"] for row in rows(demo("er").train))
    assert max(counts.values()) - min(counts.values()) <= 2
    assert "no emotions" in demo("er").notes[1]


def test_queries_are_held_by_the_documents_that_say_so(demo: Demo, corpus: list[Utterance]) -> None:
    root = demo("qbe").tests[0]
    said = {one.id: one for one in corpus}
    queried: dict[str, set[str]] = {}
    for split in ("dev", "eval"):
        lines = (root / "scoring" / f"groundtruth_quesst14_{split}" / f"quesst14_{split}.rttm").read_text().splitlines()
        names = (root / "scoring" / f"language_key_{split}.lst").read_text().splitlines()
        assert {line.split()[5] for line in lines} == {name.split("/")[-1].split(".")[0] for name in names}
        queried[split] = {line.split()[5].rpartition("_")[2].upper() for line in lines}
        held = {(line.split()[1], line.split()[5].rpartition("_")[2].upper()) for line in lines}
        for name in (root / "scoring" / "language_key_utterances.lst").read_text().splitlines():
            document = name.split("/")[-1].split(".")[0]
            assert queried[split] & {word.replace("'", "") for word in said[document].words} <= {
                word for one, word in held if one == document
            }
    assert not queried["dev"] & queried["eval"]


def test_too_little_of_the_corpus_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task=sf data=demo: 0\.02 hours .* hold nothing for .*data.hours=0.5"):
        demo_data("sf", tmp_path, hours=0.02, seed=0)
