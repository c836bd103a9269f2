"""The demo corpus: the same bytes always, labels that agree with the sound, errors that say what to do."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio import demo
from speechdistill.audio.demo import PHONES, VOICES, demo_corpus, phone_frames
from speechdistill.audio.demo_effects import NOISES, band_limit, degrade, noise, reverberate
from speechdistill.audio.demo_phones import VOWELS, segments_of
from speechdistill.audio.demo_text import DIGITS, draw_sentence
from speechdistill.audio.espeak import SynthesiserError
from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ, num_frames

HOURS = 0.06


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return demo_corpus(HOURS, cache_dir=tmp_path_factory.mktemp("cache"), progress=False)


def digest(root: Path) -> str:
    """One hash of all files' names and bytes."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def partial_folders(cache: Path) -> list[Path]:
    return list(cache.glob(".*partial*"))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_bytes_do_not_depend_on_workers_or_cache(table: Table, tmp_path: Path, num_workers: int) -> None:
    again = demo_corpus(HOURS, num_workers=num_workers, cache_dir=tmp_path, progress=False)
    assert digest(again.root) == digest(table.root)


def test_a_second_call_reads_the_cache(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_build", lambda *_: pytest.fail("made again"))
    again = demo_corpus(HOURS, cache_dir=table.root.parent)
    assert again.paths == table.paths
    assert again.labels == table.labels


def test_works_from_a_script_on_standard_input_with_threads(table: Table, tmp_path: Path) -> None:
    script = (
        "import threading, time, torch\n"
        "threading.Thread(target=time.sleep, args=(3,), daemon=True).start()\n"
        "from speechdistill.audio.demo import demo_corpus\n"
        "print(demo_corpus(0.02, progress=False).root)\n"
    )
    environment = os.environ | {"SPEECHDISTILL_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, env=environment, check=True, timeout=60
    )
    assert Path(done.stdout.strip()).parent == tmp_path
    assert done.stderr == ""


def test_more_hours_begin_with_the_same_utterances(table: Table, tmp_path: Path) -> None:
    short = demo_corpus(0.02, cache_dir=tmp_path, progress=False)
    assert set(short.paths) < set(table.paths)
    for row, path in enumerate(short.paths):
        longer = table.paths.index(path)
        assert short.path(row).read_bytes() == table.path(longer).read_bytes()
        assert all(short.labels[name][row] == table.labels[name][longer] for name in short.labels)


def test_more_hours_never_mean_less_of_a_voice() -> None:
    before: dict[str, float] = {}
    for hours in (*np.arange(0.002, 0.5, 0.002), 1.0, 5.0):
        seconds = {voice: seconds for _, voice, seconds in demo._speakers(hours)}
        assert sum(seconds.values()) == pytest.approx(3600 * hours, abs=1.5)
        assert all(seconds[voice] > before[voice] - 1e-9 for voice in before)
        before = seconds
    assert len(before) == sum(map(len, VOICES.values()))


def test_another_seed_says_something_else(table: Table, tmp_path: Path) -> None:
    other = demo_corpus(0.02, seed=1, cache_dir=tmp_path, progress=False)
    assert set(other.labels["transcript"]) - set(table.labels["transcript"])


@pytest.mark.parametrize("seed", [0, 1])
def test_length_is_what_was_asked_for(tmp_path: Path, seed: int) -> None:
    assert demo_corpus(0.1, seed=seed, cache_dir=tmp_path, progress=False).hours == pytest.approx(0.1, rel=0.05)


def test_voices_are_in_one_split_each(table: Table) -> None:
    voices = [voice for split in VOICES.values() for voice in split]
    assert len(voices) == len(set(voices)) >= 80
    assert len(VOICES["train"]) / len(voices) == pytest.approx(0.8, abs=0.03)
    speakers = {split: set(table.select(split).labels["speaker"]) for split in VOICES}
    assert all(speakers.values())
    assert sum(map(len, speakers.values())) == len(set.union(*speakers.values()))
    assert len(demo._speakers(0.5)) == len(voices)


def test_files_are_what_the_table_says(table: Table) -> None:
    assert len(set(table.paths)) == len(table)
    assert len({table.path(row).read_bytes() for row in range(len(table))}) == len(table)
    for row in range(len(table)):
        info = soundfile.info(table.path(row))
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", SAMPLE_RATE_HZ, 1)
        assert info.frames == table.num_samples[row] >= SAMPLE_RATE_HZ
        speaker = table.labels["speaker"][row]
        assert table.paths[row].startswith(f"audio/{speaker}/{speaker}-0")


def test_phones_cover_the_file_without_a_gap(table: Table) -> None:
    for phones, total in zip(table.labels["phones"], table.num_samples, strict=True):
        assert [start for _, start, _ in phones] == [0] + [end for _, _, end in phones[:-1]]
        assert phones[-1][2] == total
        assert all(end > start and phone in PHONES for phone, start, end in phones)
        assert phones[0][0] == phones[-1][0] == "sil"


def test_transcripts_and_slots_agree(table: Table) -> None:
    slots = 0
    for transcript, marked in zip(table.labels["transcript"], table.labels["slots"], strict=True):
        assert set(transcript) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")
        words = transcript.split(" ")
        assert all(words)
        for slot in marked:
            assert " ".join(words[slot["first_word"] : slot["end_word"]]) == slot["value"] != ""
            slots += 1
    assert slots


def test_sentences_have_many_words_and_intents() -> None:
    rng = np.random.default_rng(0)
    sentences = [draw_sentence(rng) for _ in range(3000)]
    assert len({word for sentence in sentences for word in sentence.words}) > 500
    intents = {sentence.intent for sentence in sentences}
    assert {"activate_lights_kitchen", "decrease_heat", "play_music", "digits", "words", "statement"} <= intents
    assert any(len(sentence.words) == 1 for sentence in sentences)
    digits = [sentence.words for sentence in sentences if sentence.intent == "digits"]
    assert {word for words in digits for word in words} == {digit.upper() for digit in DIGITS}
    for sentence in sentences:
        for slot in sentence.slots:
            assert " ".join(sentence.words[slot["first_word"] : slot["end_word"]]) == slot["value"]


def test_clean_phones_sound_as_they_should(table: Table) -> None:
    levels: dict[str, list[float]] = {phone: [] for phone in PHONES}
    crossings: dict[str, list[float]] = {phone: [] for phone in PHONES}
    for row in range(len(table)):
        if table.labels["effects"][row]:
            continue
        waveform, _ = soundfile.read(table.path(row))
        loudness = np.sqrt(np.mean(waveform**2))
        for phone, start, end in table.labels["phones"][row]:
            part = waveform[start:end]
            if len(part) > 320:
                levels[phone].append(20 * np.log10(np.sqrt(np.mean(part**2)) / loudness + 1e-9))
                crossings[phone].append(float(np.mean(np.diff(np.signbit(part)))))
    level = {phone: np.median(values) for phone, values in levels.items() if values}
    crossing = {phone: np.median(values) for phone, values in crossings.items() if values}
    assert level["sil"] < -35
    assert all(level[vowel] > -3 for vowel in VOWELS if vowel in level)
    assert all(level[stop] < -3 for stop in "ptkbd")
    assert all(level[liquid] > -6 for liquid in "lr")  # an "l" behind a vowel has its event at its end
    assert crossing["s"] > 0.4
    assert crossing["s"] > 2 * max(crossing[vowel] for vowel in VOWELS if vowel in crossing)


def test_stop_gets_its_closure_and_coda_l_part_of_the_vowel() -> None:
    rate_hz = 22_050
    loud = np.full(4000, 9000, dtype=np.int16)
    quiet = np.zeros(1000, dtype=np.int16)
    # "ilk": vowel and l in one sound, 1,000 samples of closure, burst at 5,000, then a pause.
    waveform = np.concatenate([loud, quiet, loud[:500], quiet])
    onsets = [("'I", 0), ("l", 4000), ("k", 5000), ("_:", 5500), ("_", 6500)]
    length = int(0.35 * 4000)
    assert segments_of(waveform, onsets, "en", rate_hz) == [
        ["ih", 0, 4000 - length],
        ["l", 4000 - length, 4000],
        ["k", 4000, 5500],
        ["sil", 5500, 6500],
    ]


def test_r_coloured_vowels_end_in_r_where_the_accent_says_so() -> None:
    waveform = np.full(3000, 9000, dtype=np.int16)
    onsets = [("o@", 0), ("r-", 2000), ("3", 2500)]
    assert segments_of(waveform, onsets, "en-us", 22_050) == [["ao", 0, 1300], ["r", 1300, 2500], ["er", 2500, 3000]]
    assert segments_of(waveform, onsets, "en", 22_050) == [["ao", 0, 2000], ["r", 2000, 2500], ["ax", 2500, 3000]]


def test_phone_frames_takes_the_phone_at_the_centre() -> None:
    phones = [["sil", 0, 200], ["s", 200, 521], ["aa", 521, 840], ["sil", 840, 1000]]
    # Centres at 200, 520, 840 and, behind the end, 1160.
    labels = phone_frames(phones, 4)
    assert labels.dtype == np.int64
    assert [PHONES[label] for label in labels] == ["s", "s", "sil", "sil"]
    assert phone_frames(phones, 0).shape == (0,)


def test_phone_frames_fit_a_recording(table: Table) -> None:
    seen = np.zeros(len(PHONES), dtype=np.int64)
    for phones, total in zip(table.labels["phones"], table.num_samples, strict=True):
        seen += np.bincount(phone_frames(phones, num_frames(int(total))), minlength=len(PHONES))
    assert (seen > 0).sum() >= 39
    assert 0.15 < seen[0] / seen.sum() < 0.4


def test_effects_keep_time_and_limit_the_band() -> None:
    rng = np.random.default_rng(0)
    click = np.zeros(16_000)
    click[5000] = 1.0
    assert np.argmax(np.abs(reverberate(click, rng, SAMPLE_RATE_HZ))) == 5000
    assert np.argmax(np.abs(band_limit(click, 300, 3400, SAMPLE_RATE_HZ))) == 5000
    narrow = np.abs(np.fft.rfft(band_limit(rng.standard_normal(16_000), 300, 3400, SAMPLE_RATE_HZ))) ** 2
    assert narrow[4000:].sum() + narrow[:200].sum() < 1e-3 * narrow.sum()
    for kind in NOISES:
        assert np.mean(noise(kind, 8000, rng, SAMPLE_RATE_HZ) ** 2) == pytest.approx(1.0)


def test_a_third_is_clean_and_a_third_is_narrow() -> None:
    rng = np.random.default_rng(0)
    speech = np.sin(np.arange(4000) / 5.0)
    effects = [degrade(speech, rng, SAMPLE_RATE_HZ) for _ in range(600)]
    assert all(np.abs(waveform).max() <= 0.9501 and len(waveform) == 4000 for waveform, _ in effects)
    assert np.mean([not names for _, names in effects]) == pytest.approx(0.35, abs=0.06)
    narrow = [bool({"telephone", "narrow"} & set(names)) for _, names in effects]
    assert np.mean(narrow) == pytest.approx(0.31, abs=0.06)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hours": 0}, "data.hours is 0"),
        ({"hours": -1.0}, "data.hours is -1.0"),
        ({"hours": float("nan")}, "data.hours is nan"),
        ({"hours": "half"}, "data.hours is 'half'"),
        ({"seed": -3}, "seed is -3"),
        ({"num_workers": 0}, "num_workers is 0"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        demo_corpus(**arguments, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_synthesiser_it_points_to_own_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SynthesiserError("OSError: no such file")

    monkeypatch.setattr(demo, "load_library", missing)
    with pytest.raises(UserError, match=r"data=folder data\.root="):
        demo_corpus(0.02, cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot be written.*SPEECHDISTILL_CACHE"):
        demo_corpus(0.02, cache_dir=tmp_path / "file")


def test_a_voice_that_fails_ends_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "VOICES", {"train": ("m3", "nobody"), "val": ("f1",), "test": ("f2",)})
    with pytest.raises(UserError, match="'nobody' failed"):
        demo_corpus(0.02, cache_dir=tmp_path, progress=False)
    assert not partial_folders(tmp_path)
    assert not list(tmp_path.glob("demo-*"))


def test_a_killed_build_is_not_believed(table: Table, tmp_path: Path) -> None:
    script = "from speechdistill.audio.demo import demo_corpus; demo_corpus(5.0)"
    environment = os.environ | {"SPEECHDISTILL_CACHE": str(tmp_path)}
    build = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 30
    while not any(tmp_path.rglob("*.flac")) and time.monotonic() < deadline:
        time.sleep(0.02)
    build.send_signal(signal.SIGKILL)
    build.wait()
    assert partial_folders(tmp_path)
    assert not list(tmp_path.glob("demo-*"))
    # The name of what was left is that of a short corpus: its build takes the place over, and cleans up.
    left = partial_folders(tmp_path)[0]
    left.rename(tmp_path / left.name.replace("5.0h", f"{HOURS}h"))
    assert digest(demo_corpus(HOURS, cache_dir=tmp_path, progress=False).root) == digest(table.root)
    assert not partial_folders(tmp_path)


def _build_in(cache: str) -> str:
    return digest(demo_corpus(0.02, cache_dir=Path(cache), progress=False).root)


def test_two_at_once_both_succeed(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_build_in, [str(tmp_path)] * 2, chunksize=1)
    assert first == second
    assert not partial_folders(tmp_path)
