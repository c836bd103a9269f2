"""Speech recognition from the command line: a run, its folder, transformers' pipeline, transcribing, bad input."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from transformers import HubertConfig, HubertModel

from speechdistill import StudentConfig, StudentModel, cli, finetune, transcribe
from speechdistill.audio.corpora import librispeech_corpus
from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.reading import read_waveform
from speechdistill.models.config import uniform_layers
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.recognition.asr_dir import load_recognizer, save_recognizer
from speechdistill.recognition.recognizer import Recognizer
from speechdistill.recognition.vocabulary import Vocabulary
from tests.cards import listed_outputs, run_card
from tests.end_to_end.conftest import TEACHER
from tests.end_to_end.runs import losses, start

Command = Callable[..., int]
RECIPE = Path(__file__).parents[2] / "recipes" / "asr"
RUN = [
    "data.hours=0.02",
    "data.num_workers=0",
    "trainer.log_every_n_steps=1",
    "trainer.tensorboard=false",
    "trainer.precision=32-true",
]


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    StudentModel(
        StudentConfig(
            conv_layers=[[16, k, s] for k, s in [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]],
            hidden_size=32,
            layers=uniform_layers(2, 4, 8, 64),
            positional_convolution={"kernel_size": 16, "groups": 4},
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Command:
    def call(verb: Callable[[list[str]], int], *words: str) -> int:
        monkeypatch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.run(verb, list(words))
        return int(ended.value.code or 0)

    return call


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of some steps with a log-mel BLSTM, which writes nothing yet."""
    out_dir = tmp_path_factory.mktemp("silent") / "run"
    os.environ.pop("SPEECHDISTILL_OUT_DIR", None)
    words = ["task=asr_frozen", "student=fbank", *RUN, "task.head_size=32", "trainer.max_steps=10"]
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        assert finetune.main([*words, "trainer.validate_every_steps=5", f"out_dir={out_dir}"]) == 0
    (out_dir / "printed").write_text(printed.getvalue())
    del os.environ["SPEECHDISTILL_OUT_DIR"]
    return out_dir


@pytest.fixture(scope="session")
def finished(silent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, with a blank so rare that something is written of every recording."""
    out_dir = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(silent, out_dir)
    model, vocabulary = load_recognizer(out_dir)
    with torch.no_grad():
        model.head.output.bias[0] -= 4
    save_recognizer(out_dir / "model", model, vocabulary, (out_dir / "model" / "README.md").read_text())
    return out_dir


def test_a_run_leaves_what_its_readers_expect(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    asr = summary["asr"]
    assert {"wer", "cer", "split", "utterances"} <= set(asr)
    assert asr["split"] == "test"
    assert summary["val"]["wer"] >= 0
    assert summary["steps"] == 10
    with (finished / "hypotheses_test.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == asr["utterances"] > 0
    assert sum(int(row["word_errors"]) for row in rows) / sum(int(row["words"]) for row in rows) == pytest.approx(
        asr["wer"], abs=1e-5
    )
    card = (finished / "model" / "README.md").read_text()
    assert f"| test | {asr['utterances']} |" in card
    assert "greedy" in card
    (left,) = run_card(finished / "model")
    listed = listed_outputs(finished / "model")
    assert set(left["output"]) == {"text"} < set(listed)
    scores = left["recognise"].model(torch.zeros(1, 16000), output_hidden_states=True)
    assert {"text", *scores} == set(listed)
    assert listed["logits"] == f"(batch, frames, {scores.logits.shape[-1]})"


def test_a_recogniser_that_writes_nothing_says_so(
    silent: Path, tmp_path: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (silent / "printed").read_text().splitlines()
    assert [line for line in lines if line.startswith("step 5: val/loss") and "only blanks so far" in line]
    assert [line for line in lines if line.startswith("only blanks so far: not a word in") and "Train longer" in line]
    asr = json.loads((silent / "summary.json").read_text())["asr"]
    assert asr["without_words"] == asr["utterances"]
    assert "**It recognises nothing yet**, only blanks so far" in (silent / "model" / "README.md").read_text()
    files = [str(demo_corpus(0.02).path(row)) for row in range(2)]
    assert run(transcribe.main, f"model={silent}", "format=srt", f"out={tmp_path}", *files) == 0
    printed = capsys.readouterr().err
    assert f"no word in 2 of 2 recordings, only blanks: {files[0]}, {files[1]}" in printed
    assert printed.count("no word in") == 1
    for kind in ("text", "json"):
        assert run(transcribe.main, f"model={silent}", f"format={kind}", files[0]) == 0
        assert f"no word in the recording, only blanks: {files[0]}" in capsys.readouterr().err


def test_the_pipeline_of_transformers_writes_the_same_text(finished: Path, student_folder: Path) -> None:
    model, vocabulary = load_recognizer(finished)
    recognizer = Recognizer(model, vocabulary)
    pipeline = transformers.pipeline("automatic-speech-recognition", model=str(finished / "model"))
    table = demo_corpus(0.02)
    heard = []
    for row in range(5):
        audio = read_waveform(table.path(row))
        heard.append(recognizer(audio).text)
        assert pipeline(audio.copy())["text"] == heard[-1]
    assert any(heard)
    processor = transformers.Wav2Vec2Processor.from_pretrained(finished / "model")
    assert processor.tokenizer.decode(vocabulary.encode("A CAT")) == "A CAT"


@pytest.mark.parametrize("kind", ["layer norm", "sentencepiece"])
def test_the_pipeline_writes_the_same_text_of_other_encoders_and_units(kind: str, tmp_path: Path) -> None:
    texts = ["TURN THE LIGHT ON", "NO LIGHT IS ON", "THE TURN IS NO TURN"] * 10
    by_pieces = kind == "sentencepiece"
    vocabulary = Vocabulary.of_sentencepiece(texts, 24) if by_pieces else Vocabulary.of_characters(texts)
    encoder = {"kind": "transformers", **HubertConfig(**TEACHER, feat_extract_norm="layer", conv_bias=True).to_dict()}
    torch.manual_seed(0)
    model = StudentForCTC(CTCConfig(encoder=encoder, vocab_size=len(vocabulary))).eval()
    with torch.no_grad():  # fresh weights say the same unit all the time
        model.head.output.weight.mul_(60)
        model.head.output.weight.sub_(model.head.output.weight.mean(0))
    save_recognizer(tmp_path / "model", model, vocabulary, "a card")
    recognizer = Recognizer(*load_recognizer(tmp_path / "model"))
    pipeline = transformers.pipeline("automatic-speech-recognition", model=str(tmp_path / "model"))
    table = demo_corpus(0.02)
    heard = [recognizer(read_waveform(table.path(row))).text for row in range(5)]
    assert [pipeline(read_waveform(table.path(row)))["text"] for row in range(5)] == heard
    assert len(set(heard)) > 1
    assert any(" " in text for text in heard)


def test_training_on_joined_recordings_is_one_setting(student_folder: Path, tmp_path: Path, run: Command) -> None:
    words = ["task=asr", f"student={student_folder}", *RUN, "data.max_seconds=12", "data.join_seconds=12"]
    words += ["data.batch_seconds=24", "trainer.max_steps=3", f"out_dir={tmp_path / 'run'}"]
    assert run(finetune.main, *words) == 0
    model, _ = load_recognizer(tmp_path / "run")
    longest = float(demo_corpus(0.02).num_samples.max()) / 16_000
    assert longest + 0.5 < model.config.trained_seconds <= 12


def test_files_are_transcribed_as_text_json_and_subtitles(
    finished: Path, tmp_path: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    table = demo_corpus(0.02)
    files = [str(table.path(0)), str(table.path(1))]
    model, vocabulary = load_recognizer(finished)
    expected = [Recognizer(model, vocabulary)(read_waveform(Path(file))) for file in files]
    assert run(transcribe.main, f"model={finished}", *files) == 0
    printed = capsys.readouterr()
    assert printed.out == "".join(f"{f}\t{e.text}\n" for f, e in zip(files, expected, strict=True))
    assert "no word" not in printed.err
    assert run(transcribe.main, f"model={finished}/model", "format=json", f"out={tmp_path}", *files) == 0
    content = json.loads((tmp_path / (Path(files[0]).stem + ".json")).read_text())
    assert content["text"] == expected[0].text
    assert [word["text"] for word in content["words"]] == expected[0].text.split()
    assert run(transcribe.main, f"model={finished}", "format=srt", "beam=4", files[0]) == 0
    assert " --> 00:00:0" in capsys.readouterr().out


def test_a_damaged_file_is_named_and_the_others_are_transcribed(
    finished: Path, tmp_path: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    good = str(demo_corpus(0.02).path(0))
    assert run(transcribe.main, f"model={finished}", str(tmp_path / "bad.wav"), good) == 1
    printed = capsys.readouterr()
    assert "bad.wav cannot be read" in printed.err
    assert printed.out.startswith(good)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.wav"], "model= is missing"),
        (["model=x"], "the recordings are missing"),
        (["model=x", "a.wav", "chunk_seconds=long"], "chunk_seconds=long: give a number"),
        (["model=x", "a.wav", "format=pdf"], "format=pdf: allowed are text, json, srt"),
        (["model=x", "a.wav", "beam=many"], "beam=many: give a whole number"),
        (["model=x", "a.wav", "b/a.flac", "out=y"], "several recordings are called a"),
        (["model=x", "a.wav", "b.wav", "format=srt"], "format=srt of several recordings needs a folder"),
        (["model=/nowhere", "a.wav"], "is no recogniser: config.json is missing"),
    ],
)
def test_transcribe_says_what_is_wrong(
    words: list[str], message: str, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(transcribe.main, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("word", ["beam=-1", "lm_weight=nan", "word_bonus=inf", "chunk_seconds=nan"])
def test_transcribe_refuses_numbers_that_cannot_be(
    word: str, finished: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(transcribe.main, f"model={finished}", "a.wav", word) == 2
    error = capsys.readouterr().err
    assert f"{word}: give" in error or f"{word} must be" in error


def test_a_run_that_goes_on_with_another_student_is_one_message(
    student_folder: Path, tmp_path: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"student={student_folder}", *RUN, "trainer.max_steps=2", "trainer.stop_after_steps=1"]
    assert run(finetune.main, "task=asr", *words, f"out_dir={tmp_path / 'run'}") == 0
    other = StudentModel.from_pretrained(student_folder)
    with torch.no_grad():
        other.encoder.layers[1].feed_forward.output_dense.bias[3] += 0.1
    other.save_pretrained(tmp_path / "same shape")
    for name in ("mini", str(tmp_path / "same shape")):
        capsys.readouterr()
        assert run(finetune.main, f"resume={tmp_path / 'run'}", f"student={name}") == 2
        error = capsys.readouterr().err
        assert f"student={name} has other weights than the student that {tmp_path / 'run'} began with" in error
        assert len(error.strip().splitlines()) == 1
    shutil.copytree(student_folder, tmp_path / "moved")
    assert run(finetune.main, "task=asr", *words, f"resume={tmp_path / 'run'}", f"student={tmp_path / 'moved'}") == 0


@pytest.mark.parametrize("task", ["asr", "asr_frozen"])
def test_stop_and_resume_equals_an_uninterrupted_run(
    task: str, student_folder: Path, tmp_path: Path, run: Command
) -> None:
    words = [f"task={task}", f"student={student_folder}", *RUN, "task.head_size=8", "data.batch_seconds=20"]
    words += ["trainer.max_steps=7", "trainer.validate_every_steps=3", "trainer.checkpoint_every_steps=2"]
    words += ["task.freeze_encoder_steps=2", "trainer.accumulate=2"]
    assert run(finetune.main, *words, f"out_dir={tmp_path / 'whole'}") == 0
    assert run(finetune.main, *words, f"out_dir={tmp_path / 'parts'}", "trainer.stop_after_steps=3") == 0
    assert not (tmp_path / "parts" / "hypotheses_test.tsv").exists()
    assert run(finetune.main, f"resume={tmp_path / 'parts'}", "trainer.stop_after_steps=null") == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    names = ("model/model.safetensors", "hypotheses_test.tsv")
    assert all((tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_a_teacher_is_fine_tuned_with_sentencepiece_and_its_best_weights_are_kept(tmp_path: Path, run: Command) -> None:
    torch.manual_seed(0)
    HubertModel(HubertConfig(**TEACHER)).save_pretrained(tmp_path / "teacher")
    words = ["task=asr", f"student={tmp_path / 'teacher'}", *RUN, "task.units=sentencepiece", "task.num_units=60"]
    words += ["trainer.max_steps=3", "trainer.validate_every_steps=1", "task.beam=2", f"out_dir={tmp_path / 'run'}"]
    assert run(finetune.main, *words) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["asr"]["decoding"] == "beam search of 2, no language model"
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    model, vocabulary = load_recognizer(tmp_path / "run")
    assert torch.equal(model.head.output.weight, best["model.head.output.weight"])
    assert any(len(unit) > 2 for unit in vocabulary.units[2:])


def test_two_ranks_are_one_that_accumulates_two(student_folder: Path, tmp_path: Path, run: Command) -> None:
    words = ["task=asr", f"student={student_folder}", *RUN, "data.batch_seconds=16", "data.max_seconds=8"]
    words += ["trainer.max_steps=5", "trainer.validate_every_steps=3", "task.freeze_encoder_steps=2", "optim.lr=1e-3"]
    pair = start(*words, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2", verb="finetune")
    output, errors = pair.communicate(timeout=300)
    assert pair.returncode == 0, errors
    assert output.count("done: 5 steps") == 1
    assert run(finetune.main, *words, f"out_dir={tmp_path / 'alone'}", "trainer.accumulate=2") == 0
    ends = [load_recognizer(tmp_path / name)[0].state_dict() for name in ("alone", "pair")]
    assert max((ends[0][name] - ends[1][name]).abs().max().item() for name in ends[0]) < 1e-5
    rates = [json.loads((tmp_path / name / "summary.json").read_text())["val"]["cer"] for name in ("alone", "pair")]
    assert rates[0] == pytest.approx(rates[1], abs=1e-6)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Twenty seconds of noise in LibriSpeech's layout, one file without a text."""
    random = np.random.default_rng(0)
    for part, count in (("train-clean-100", 8), ("dev-clean", 2)):
        folder = tmp_path / "speech" / part / "1" / "2"
        folder.mkdir(parents=True)
        for number in range(count):
            audio = 0.1 * random.normal(size=16_000 * (1 + number % 3))
            soundfile.write(folder / f"1-2-{number:04d}.flac", audio, 16_000)
        lines = [f"1-2-{number:04d} hello number {number}\n" for number in range(count - 1)]
        (folder / "1-2.trans.txt").write_text("".join(lines))
    return tmp_path / "speech"


def words_of(speech: Path, out_dir: Path) -> list[str]:
    parts = "data.parts=[train-clean-100,dev-clean]"
    rest = [word for word in RUN if not word.startswith("data.hours")]
    return [
        *("task=asr_frozen", "student=fbank", "task.head_size=8", "data=librispeech", f"data.root={speech}", parts),
        *(*rest, "data.max_skipped_share=1", "trainer.max_steps=1", "data.batch_seconds=40", f"out_dir={out_dir}"),
    ]


def test_what_cannot_be_learned_is_counted_by_its_reason(
    speech: Path, tmp_path: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file = speech / "train-clean-100" / "1" / "2" / "1-2.trans.txt"
    lines = file.read_text().splitlines()
    lines[0] = "1-2-0000 " + "many words in a second " * 5  # 49 frames
    lines[1] = "1-2-0001 "
    file.write_text("\n".join(lines) + "\n")
    dev = speech / "dev-clean" / "1" / "2" / "1-2.trans.txt"
    dev.write_text("1-2-0000 Hellö\n1-2-0001 hello\n")
    assert (
        run(finetune.main, *words_of(speech, tmp_path / "run"), "data.max_seconds=2.5", "task.freeze_encoder_steps=1")
        == 0
    )
    printed = capsys.readouterr().out
    assert "left out: 1 (no transcript), 1 (empty transcript), 2 (longer than data.max_seconds)\n" in printed
    short = "train-clean-100/1/2/1-2-0000.flac"
    assert "1 recordings have fewer frames than their text has units: nothing is learned from them: " + short in printed
    assert "warning: task.freeze_encoder_steps=1 is no less than trainer.max_steps=1" in printed
    assert "characters that no unit covers, learned as <unk>: 'Ö' 1 times" in printed
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    reasons = {item["path"]: item["reason"] for item in summary["data"]["skipped"]}
    assert reasons["train-clean-100/1/2/1-2-0007.flac"] == "no transcript"
    assert reasons["train-clean-100/1/2/1-2-0001.flac"] == "empty transcript"
    assert summary["text"]["unknown_characters"] == {"Ö": 1}
    assert summary["text"]["fewer_frames_than_units"] == [short]
    assert summary["asr"]["split"] == "val"


def test_librispeech_finds_its_texts_beside_the_audio(speech: Path) -> None:
    from speechdistill.audio.transcripts import transcripts

    table = librispeech_corpus(speech, ["train-clean-100"], progress=False)
    assert transcripts(table) == [*(f"hello number {number}" for number in range(7)), None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data=folder", "no recording has a transcript"),
        ("data.max_seconds=0.6", "no recording is left for training: 2 (no transcript), 8 (longer"),
        ("data.batching=crop", "recognition needs pad"),
        ("task.case=title", "task.case=title: allowed are upper, lower, keep"),
        ("task.units=words", "task.units=words: allowed are characters, sentencepiece"),
        ("task.encoder=half", "task.encoder=half: allowed are full, frozen"),
        ("task.head=big", "task.head=big: allowed are linear, blstm"),
        ("task.vocabulary=UNITS", "units.txt has no word boundary"),
        ("data.join_seconds=37", "data.join_seconds=37 must be at most data.max_seconds=16"),
        ("task.vocabulary=/nowhere.json", "/nowhere.json is no vocabulary"),
        ("task.beam=2.5", "beam=2.5: give a whole number"),
        ("task.lm=/nowhere.arpa", "lm=/nowhere.arpa cannot be read"),
        ("student=/nowhere", "student=/nowhere: no such folder"),
        ("tusk.head=linear", "no key 'tusk.head', did you mean 'task.head'"),
    ],
)
def test_finetune_says_what_is_wrong(
    change: str, message: str, speech: Path, tmp_path: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(speech, tmp_path / "run")
    if change == "data=folder":
        words = [word for word in words if not word.startswith(("data=", "data.parts="))]
        for file in speech.rglob("*.trans.txt"):
            file.unlink()
    if change.endswith("UNITS"):
        (tmp_path / "units.txt").write_text("H\nE\nL\nO\n")
        change = f"task.vocabulary={tmp_path / 'units.txt'}"
    if change.startswith("student"):
        words.remove("student=fbank")
    assert run(finetune.main, *words, change) == 2
    assert message in capsys.readouterr().err


def program(*words: object) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("SPEECHDISTILL_OUT_DIR", None)
    command = [str(word) for word in words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_goes_from_the_corpus_to_error_rates(speech: Path, student_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(speech / "dev-clean", speech / "test-clean")
    words = ["trainer.max_steps=1", "data.num_workers=0", "data.max_skipped_share=1", "trainer.accumulate=1"]
    said = program("bash", RECIPE / "run.sh", 1, student_folder, speech, tmp_path / "run", *words)
    assert "test: WER" in said
    assert "has done all of its 1 steps" in program(
        "bash", RECIPE / "run.sh", 1, student_folder, speech, tmp_path / "run"
    )


def test_connected_digits_leave_each_speaker_out_once(tmp_path: Path, finished: Path) -> None:
    random = np.random.default_rng(0)
    rows = ["path,digit,speaker"]
    for speaker in ("ann", "bob", "cyd"):
        for number in range(30):
            soundfile.write(tmp_path / f"{speaker}{number}.wav", 0.1 * random.normal(size=4000), 8_000)
            rows.append(f"{speaker}{number}.wav,{number % 10},{speaker}")
    (tmp_path / "digits.csv").write_text("\n".join(rows) + "\n")
    program(sys.executable, RECIPE / "connected_digits.py", tmp_path, tmp_path / "out")
    for left_out in ("ann", "bob", "cyd"):
        speakers: dict[str, set[str]] = {}
        with (tmp_path / "out" / f"{left_out}.text.csv").open() as file:
            for row in csv.DictReader(file):
                speakers.setdefault(row["split"], set()).add(Path(row["path"]).parent.name)
        assert speakers["test"] == {left_out}
        assert not speakers["train"] & speakers["val"]
        assert left_out not in speakers["train"] | speakers["val"]
        heard = (tmp_path / "out" / f"{left_out}.audio.csv").read_text()
        assert f"/{left_out}/" not in heard
    table = program(sys.executable, RECIPE / "table.py", finished)
    assert f"| {json.loads((finished / 'summary.json').read_text())['asr']['utterances']} |" in table
