"""Probes: the classifier reaches its optimum, nothing leaks from what is held out, people's errors get one message."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import HubertConfig, HubertModel

from speechdistill import probe
from speechdistill.audio.demo import demo_corpus
from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.evaluation import probe_progress, probes
from speechdistill.evaluation.comparison import untrained_student
from speechdistill.evaluation.features import encoder_features, mfcc_features
from speechdistill.evaluation.probe_folds import Fold, leave_groups_out, within_each_label
from speechdistill.evaluation.probe_report import share_of_gain
from speechdistill.evaluation.probe_tables import csv_probe
from speechdistill.evaluation.probes import (
    PhoneProbe,
    Run,
    UtteranceProbe,
    constant_answers,
    pool,
    pooled,
)
from speechdistill.evaluation.softmax import fit_softmax
from speechdistill.frames import num_frames
from speechdistill.models.config import StudentConfig
from speechdistill.models.derive import derive_config
from speechdistill.models.student import StudentForDistillation

ARCHITECTURE = {
    "num_hidden_layers": 1,
    "hidden_size": None,
    "num_attention_heads": None,
    "intermediate_size": None,
    "projection_layer_norm": False,
    "feature_grad_mult": 0.1,
    **dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    folder = tmp_path_factory.mktemp("teacher")
    HubertModel(config).save_pretrained(folder)
    return folder


def make_student(folder: Path, teacher: Path, seed: int, **changes: int) -> Path:
    provenance = {"name": str(teacher), "revision": None, "sha256": load_encoder(str(teacher)).source.sha256}
    config = HubertConfig.from_pretrained(teacher)
    torch.manual_seed(seed)
    student = StudentForDistillation(derive_config({**ARCHITECTURE, **changes}, config, [1, 2], provenance))
    save_student(folder / "student", student, "a student")
    return folder


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> list[Path]:
    root = tmp_path_factory.mktemp("students")
    return [make_student(root / f"run{seed}", teacher, seed) for seed in range(2)]


def write_clips(folder: Path, clips: dict[str, np.ndarray], columns: dict[str, list[str]], rate: int = 8000) -> Path:
    for name, samples in clips.items():
        soundfile.write(folder / name, samples, rate)
    table = folder / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *columns])
        writer.writerows(zip(clips, *columns.values(), strict=True))
    return table


def tones(folder: Path) -> Path:
    """Two classes that a spectrum tells apart, four speakers, clips from 5 ms to 0.4 s."""
    rng = np.random.default_rng(0)
    clips, pitch, speaker, split = {}, [], [], []
    for number in range(48):
        hz = (300, 2500)[number % 2]
        count = 40 if number < 2 else int(rng.integers(800, 3200))
        wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(count) / 8000) + 0.01 * rng.standard_normal(count)
        clips[f"{number}.wav"] = wave
        pitch.append(("low", "high")[number % 2])
        speaker.append("abcd"[number // 2 % 4])
        split.append(("train", "test", "val")[number // 2 % 3])
    return write_clips(folder, clips, {"pitch": pitch, "speaker": speaker, "split": split})


def a_run(*error: float, seed: int = 0) -> Run:
    """Of one layer, with the error of each speaker, who said ten words."""
    return Run(seed, "", [0.0], np.array([[10 * one for one in error]]), np.full(len(error), 10))


class TestClassifier:
    def test_separable_classes_are_learnt(self) -> None:
        torch.manual_seed(0)
        centres = 10 * torch.randn(5, 8)
        classes = torch.arange(2000) % 5
        # Far from zero mean and unit variance: standardising is the probe's business. The last feature is constant.
        features = 100 + 30 * torch.cat([centres[classes] + torch.randn(2000, 8), torch.ones(2000, 1)], dim=1)
        fitted = fit_softmax(features[:1000], classes[:1000], 5)
        assert not fitted.wrong(features[1000:], classes[1000:]).any()

    def test_overlapping_classes_reach_the_error_of_the_best_rule(self) -> None:
        torch.manual_seed(0)
        classes = torch.arange(40_000) % 2
        features = torch.randn(40_000, 4)
        features[:, 0] += 2 * classes
        fitted = fit_softmax(features[:20_000], classes[:20_000], 2)
        best = 0.5 * (1 - torch.erf(torch.tensor(0.5**0.5)))  # half the distance of the means is one deviation
        assert fitted.wrong(features[20_000:], classes[20_000:]).float().mean() == pytest.approx(float(best), abs=0.01)

    def test_random_labels_stay_at_chance(self) -> None:
        torch.manual_seed(0)
        features, classes = torch.randn(8000, 10), torch.randint(4, (8000,))
        fitted = fit_softmax(features[:4000], classes[:4000], 4)
        assert fitted.wrong(features[4000:], classes[4000:]).float().mean() == pytest.approx(0.75, abs=0.03)

    def test_the_optimum_does_not_depend_on_the_first_weights(self) -> None:
        torch.manual_seed(0)
        features, classes = torch.randn(500, 6), torch.randint(3, (500,))
        first, second = (fit_softmax(features, classes, 3, seed) for seed in (0, 1))
        # What all classes have in common decides nothing, and the penalty is slow to take it away.
        centred = [fitted.weight - fitted.weight.mean(1, keepdim=True) for fitted in (first, second)]
        assert torch.allclose(*centred, atol=1e-3)


class TestFeatures:
    def test_mfcc_frames_are_those_of_the_encoders(self) -> None:
        features = mfcc_features(normalize=True)
        for length in range(400, 4001, 7):
            (frames,) = features(0.1 * torch.randn(length))
            assert frames.shape == (num_frames(length), 39)
            assert torch.isfinite(frames).all()

    def test_silence_and_clips_shorter_than_a_frame_have_features(self, teacher: Path) -> None:
        encoder = encoder_features(load_encoder(str(teacher)))
        for waveform in (torch.zeros(4000), torch.randn(399), torch.zeros(1)):
            for features in (mfcc_features(True), mfcc_features(False), encoder):
                for layer in features(waveform):
                    assert len(layer) == num_frames(max(400, len(waveform)))
                    assert torch.isfinite(layer).all()

    def test_student_and_teacher_give_all_their_layers(self, teacher: Path, students: list[Path]) -> None:
        for name, depth in ((teacher, 3), (students[0], 2), (students[0] / "student", 2)):
            layers = encoder_features(load_encoder(str(name)))(torch.randn(4000))
            assert [tuple(layer.shape) for layer in layers] == [(12, 32)] * depth

    def test_pooling_averages_thirds(self) -> None:
        frames = torch.arange(6.0)[:, None] * torch.tensor([1.0, 10.0])
        assert pool(frames, 3).tolist() == [0.5, 5, 2.5, 25, 4.5, 45]
        assert pool(frames, 1).tolist() == [2.5, 25]

    @pytest.mark.parametrize("num_frames", [1, 2, 4])
    def test_pooling_of_few_frames(self, num_frames: int) -> None:
        assert pool(torch.ones(num_frames, 5), 3).tolist() == [1.0] * 15


class TestFolds:
    def test_a_group_is_held_out_whole_and_every_one_in_turn(self) -> None:
        groups = ["b", "a", "c", "a", "b", "a"]
        folds = leave_groups_out(groups)
        assert [fold.held_out for fold in folds] == ["a", "b", "c"]
        for fold in folds:
            assert {groups[row] for row in fold.test} == {fold.held_out}
            assert fold.held_out not in {groups[row] for row in fold.train}
            assert sorted([*fold.train, *fold.test]) == list(range(6))

    def test_many_groups_are_held_out_in_a_few_folds_of_one_size(self) -> None:
        groups = [f"speaker {number}" for number in range(125) for _ in range(1 + number % 3)]
        folds = leave_groups_out(groups)
        assert len(folds) == 5
        assert sorted(row for fold in folds for row in fold.test) == list(range(len(groups)))
        sizes = [len(fold.test) for fold in folds]
        assert max(sizes) - min(sizes) <= 1
        for fold in folds:
            assert not {groups[row] for row in fold.test} & {groups[row] for row in fold.train}
            assert sorted([*fold.train, *fold.test]) == list(range(len(groups)))

    def test_what_only_one_group_knows_is_not_learnt(self, tmp_path: Path) -> None:
        # The class can be seen, but in each speaker the other way round: held-out speakers must come out wrong.
        rng = np.random.default_rng(0)
        high = [bool(number // 2 % 2) for number in range(40)]
        label = [str(tone ^ bool(number % 2)) for number, tone in enumerate(high)]
        clips = {
            f"{number}.wav": 0.3 * np.sin(2 * np.pi * (2500 if tone else 300) * np.arange(2000) / 8000)
            + 0.01 * rng.standard_normal(2000)
            for number, tone in enumerate(high)
        }
        table = write_clips(tmp_path, clips, {"label": label, "speaker": ["ab"[n % 2] for n in range(40)]})
        runs = csv_probe(str(table), "label", "speaker").runs(mfcc_features(False), [0], "MFCC")
        assert [run.error for run in runs] == [1.0, 1.0]

    def test_labels_are_parted_with_all_three_parts_in_each(self) -> None:
        labels = ["a"] * 10 + ["b"] * 3 + ["c"] * 2
        fold = within_each_label(labels, 0)
        assert fold.choosing is not None
        for part, counts in ((fold.test, (2, 1)), (fold.choosing, (1, 1)), (fold.train, (7, 1))):
            assert [sum(labels[row] == label for row in part) for label in "abc"] == [*counts, 0]
        assert len({*fold.test, *fold.choosing, *fold.train}) == 13
        assert fold.test.tolist() != within_each_label(labels, 1).test.tolist()

    def test_the_layer_is_not_chosen_on_what_it_is_tested_on(self, tmp_path: Path) -> None:
        # Layer 0 is right for speaker a alone, layer 1 for b and c.
        labels = ["x", "y"] * 12
        speakers = np.repeat(["a", "b", "c"], 8)

        def features(waveform: torch.Tensor) -> list[torch.Tensor]:
            row = int(waveform[0])
            right = torch.tensor([[1.0 if row % 2 else -1.0]])
            return [right if speakers[row] == "a" else 0 * right, right if speakers[row] != "a" else 0 * right]

        table = UtteranceProbe("t", [Path(str(n)) for n in range(24)], labels, lambda _: leave_groups_out(speakers))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probes, "read_recording", lambda path, *part: torch.tensor([float(path.name)]))
            runs = table.runs(features, [0], "rigged")
        for run, others in zip(runs, ([1, 2], [0, 2], [0, 1]), strict=True):
            assert run.choosing == pytest.approx(np.mean([runs[other].test for other in others], axis=0))


class TestCsv:
    def test_tones_are_told_apart_across_speakers(self, tmp_path: Path) -> None:
        runs = csv_probe(str(tones(tmp_path)), "pitch", "speaker").runs(mfcc_features(False), [0], "MFCC")
        assert [run.held_out for run in runs] == list("abcd")
        assert max(run.error for run in runs) <= 0.1

    def test_the_files_own_split_is_used_without_a_group(self, tmp_path: Path) -> None:
        (fold,) = csv_probe(str(tones(tmp_path)), "pitch").folds(0)
        assert isinstance(fold, Fold)
        assert fold.choosing is not None
        assert (len(fold.train), len(fold.test), len(fold.choosing)) == (16, 16, 16)

    def test_no_row_is_left_out_for_what_its_split_is_called(self, tmp_path: Path) -> None:
        table = tones(tmp_path)
        text = table.read_text()
        table.write_text(text.replace("val", "dev"))
        (fold,) = csv_probe(str(table), "pitch").folds(0)
        assert isinstance(fold, Fold)
        assert fold.choosing is not None
        assert len(fold.choosing) == 16
        table.write_text(text.replace("val", "foo"))
        with pytest.raises(UserError, match="split=foo; allowed are train, val, test"):
            csv_probe(str(table), "pitch")

    def test_groups_in_folds_where_they_are_many(self, tmp_path: Path) -> None:
        table = tones(tmp_path)
        assert len(csv_probe(str(table), "pitch", "speaker").folds(0)) == 4
        two = csv_probe(str(table), "pitch", "speaker", folds=2)
        assert [fold.held_out for fold in two.folds(0)] == ["fold 1 of 2", "fold 2 of 2"]
        assert (two.over, two.chosen_on, two.unit) == ("folds", "the other folds", "speakers")
        with pytest.raises(UserError, match="folds=5: give a whole number from 2 to 4"):
            csv_probe(str(table), "pitch", "speaker", folds=5)

    @pytest.mark.parametrize(("column", "asked"), [("client_id", "speaker"), ("Speaker ID", "speaker_id")])
    def test_a_column_is_found_under_the_names_that_it_has_elsewhere(
        self, column: str, asked: str, tmp_path: Path
    ) -> None:
        table = tones(tmp_path)
        table.write_text(table.read_text().replace("speaker", column, 1))
        grouped = csv_probe(str(table), "pitch", asked)
        assert [fold.held_out for fold in grouped.folds(0)] == list("abcd")
        own = csv_probe(str(table), "pitch")
        assert (own.unit, list(own.speakers or ())) == ("speakers", list(grouped.speakers or ()))

    @pytest.mark.parametrize("columns", ["audio_filepath,offset,duration", "wav,start_ms,end_ms"])
    def test_parts_of_a_file_are_read_where_the_list_says(self, columns: str, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        hz = [(300, 2500)[number % 2] for number in range(16)]
        waves = [0.3 * np.sin(2 * np.pi * one * np.arange(8000) / 16_000) for one in hz]
        sound = np.concatenate(waves) + 0.01 * rng.standard_normal(16 * 8000)
        soundfile.write(tmp_path / "long.wav", sound, 16_000)
        times = [(500 * n, 500 * n + 500) if "ms" in columns else (n / 2, 0.5) for n in range(16)]
        lines = [f"long.wav,{a},{b},{hz[n]},{'ab'[n // 2 % 2]}" for n, (a, b) in enumerate(times)]
        (tmp_path / "t.csv").write_text("\n".join([f"{columns},pitch,speaker", *lines]))
        runs = csv_probe(str(tmp_path / "t.csv"), "pitch", "speaker").runs(mfcc_features(False), [0], "MFCC")
        assert [run.error for run in runs] == [0, 0]

    def test_errors_name_what_is_wrong(self, tmp_path: Path) -> None:
        table = tones(tmp_path)
        with pytest.raises(UserError, match=r"no column word; it has path, pitch, speaker, split"):
            csv_probe(str(table), "word", "speaker")
        with pytest.raises(UserError, match=r"table=.*none\.csv: no such file"):
            csv_probe(str(tmp_path / "none.csv"), "pitch", "speaker")
        (tmp_path / "7.wav").unlink()
        with pytest.raises(UserError, match=r"1 of 48 recordings are missing, the first: .*7\.wav"):
            csv_probe(str(table), "pitch", "speaker")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("path,label,split\n", "no rows"),
            ("path,label,split\na.wav,,train\n", "line 2: no label"),
            ("path,label,split\na.wav,x,train\na.wav,x,test\n", "one value only, 'x'"),
            ("path,label,split\na.wav,x,train\na.wav,y,dev\n", "must say train and test"),
            ("", "has no rows"),
            ("path,word,split\na.wav,x,train\n", "has no column label; it has path, word, split"),
        ],
    )
    def test_tables_without_a_problem_in_them(self, tmp_path: Path, text: str, message: str) -> None:
        soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(UserError, match=message):
            csv_probe(str(tmp_path / "t.csv"), "label")

    def test_a_damaged_recording_is_named(self, tmp_path: Path) -> None:
        table = tones(tmp_path)
        (tmp_path / "3.wav").write_bytes(b"nothing")
        with pytest.raises(UserError, match=r"3\.wav cannot be read"):
            csv_probe(str(table), "pitch", "speaker").runs(mfcc_features(False), [0], "MFCC")


class TestPhones:
    def test_seeds_draw_other_frames_of_the_same_speakers(self, cache: Path) -> None:
        table = demo_corpus(0.02, cache_dir=cache, progress=False)
        phones = PhoneProbe(table, {"train": 300, "val": 50, "test": 10**9})
        ((first,), (again,), (other,)) = (phones.folds(seed) for seed in (0, 0, 1))
        assert first.choosing is not None
        assert (first.train == again.train).all()
        assert (first.test == again.test).all()
        assert (first.train != other.train).any()
        assert (len(first.train), len(first.choosing)) == (300, 50)
        assert len(first.test) == sum(num_frames(int(n)) for n in table.select("test").num_samples)

    def test_labels_that_the_features_show_are_found(self, cache: Path) -> None:
        table = demo_corpus(0.02, cache_dir=cache, progress=False)
        phones = PhoneProbe(table)
        ends = np.cumsum([num_frames(int(n)) for n in table.num_samples])
        labels = iter(np.split(phones.classes, ends[:-1]))

        def features(_: torch.Tensor) -> list[torch.Tensor]:
            known = torch.nn.functional.one_hot(torch.from_numpy(next(labels)), 41).float()
            return [torch.zeros_like(known), known]

        (run,) = phones.runs(features, [0], "oracle")
        # Phones that no training speaker says cannot be known.
        assert run.layer == 1
        assert run.error < 0.03
        assert run.test[0] > 0.5

    def test_another_frame_rate_is_refused(self, cache: Path) -> None:
        phones = PhoneProbe(demo_corpus(0.02, cache_dir=cache, progress=False))
        with pytest.raises(UserError, match="needs frames of 20 ms"):
            phones.runs(lambda waveform: [torch.zeros(len(waveform) // 640, 3)], [0], "slow")


class TestBaselines:
    def test_chance_and_majority_by_hand(self) -> None:
        labels = ["a", "a", "a", "b", "c", "c", "a", "c"]
        fold = Fold(np.array([0, 1, 2, 3, 4]), np.array([5, 6, 7]))
        probe = UtteranceProbe("t", [Path()] * 8, labels, lambda _: [fold], speakers=list("xxxxxyyz"))
        (chance,), (majority,) = constant_answers(probe, [0])
        assert chance.error == pytest.approx(2 / 3)
        assert majority.error == pytest.approx(2 / 3)  # "a" is right once in three
        assert [list(part) for part in pooled([majority])] == [[1, 1], [2, 1]]

    def test_the_majority_is_that_of_what_is_fitted_on(self) -> None:
        labels = ["a"] * 3 + ["b"] * 9
        folds = [Fold(np.arange(5), np.arange(5, 12))]
        _, (majority,) = constant_answers(UtteranceProbe("t", [Path()] * 12, labels, lambda _: folds), [0])
        assert majority.error == 1

    def test_errors_of_speakers_are_pooled_over_trials(self) -> None:
        wrong, counts = pooled([a_run(0.1, 0.2), a_run(0.3, 0.2)])
        assert wrong.tolist() == pytest.approx([4, 4])
        assert counts.tolist() == [20, 20]

    @pytest.mark.parametrize("group", ["speaker", None])
    def test_a_table_has_both_rows_and_an_interval_over_speakers(
        self, group: str | None, tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = [f"student={teacher}", f"table={tones(tmp_path)}", "label=pitch", f"out={tmp_path / 'probe.json'}"]
        probe.main(words + ([f"group={group}"] if group else []))
        printed, said = capsys.readouterr()
        lines = printed.splitlines()
        assert "95 % over 4 speakers" in lines[2]
        assert [line.split("|")[1].strip() for line in lines[4:8]] == ["chance", "majority class", "MFCC", str(teacher)]
        assert re.match(r"\| chance +\| +\| +50\.0 \| +50\.0–50\.0 \|", lines[4])
        written = json.loads((tmp_path / "probe.json").read_text())
        for row in written["rows"]:
            low, high = row["error_interval"]
            assert low <= row["error"] <= high
        first, *_ = said.splitlines()
        assert re.fullmatch(
            r"probe    pitch in .*: 48 recordings, 2 classes, .*; 2 encoders, about .* CPU cores", first
        )


class TestProgress:
    def test_time_left_is_told_by_what_is_expected(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(probe_progress, "_PLAIN_LINE_EVERY_SECONDS", 0.0)
        clock = iter(range(1000))
        monkeypatch.setattr(probe_progress.time, "monotonic", lambda: float(next(clock)))
        meter = probe_progress.Meter(40.0)
        meter.loaded(probe_progress.Cost(loading=10.0))
        assert list(meter.each("abc", 3, "teacher: features", "recording", 5.0)) == ["a", "b", "c"]
        # A second a look at the clock; 10 of 40 expected seconds were those of loading, each item is 5 more.
        assert capsys.readouterr().err.splitlines() == [
            "teacher: features 1/3  1.0 recordings a second  3 s left in all",
            "teacher: features 2/3  1.0 recordings a second  3 s left in all",
            "teacher: features 3/3  1.0 recordings a second  2 s left in all",
        ]


class TestComparison:
    def test_share_of_gain_by_hand(self) -> None:
        mfcc, row, teacher = ([a_run(e), a_run(f)] for e, f in ((0.6, 0.6), (0.4, 0.5), (0.2, 0.4)))
        assert share_of_gain(row, mfcc, teacher) == pytest.approx([0.5, 0.5, 0.5])
        assert share_of_gain(teacher, mfcc, teacher) == [1, 1, 1]
        assert share_of_gain(row, teacher, mfcc) is None

    def test_untrained_students(self, teacher: Path, students: list[Path]) -> None:
        model = load_encoder(str(teacher))
        config = StudentConfig.from_pretrained(students[0] / "student")
        random, same, other = (untrained_student(config, seed).state_dict() for seed in (0, 0, 1))
        copied = untrained_student(config, 0, model).state_dict()
        projection = "feature_projection.projection.weight"
        assert torch.equal(random[projection], same[projection])
        assert not torch.equal(random[projection], other[projection])
        assert torch.equal(copied[projection], model.state_dict()[f"model.{projection}"])
        layer = "encoder.layers.0.attention.q_proj.weight"
        assert torch.equal(copied[layer], model.state_dict()[f"model.{layer}"])

    def test_all_rows_in_one_command(
        self,
        cache: Path,
        students: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("SPEECHDISTILL_CACHE", str(cache))
        out = tmp_path / "probe.json"
        words = [f"student={folder}" for folder in students]
        assert probe.main([*words, "data=demo", "hours=0.02", f"out={out}"]) == 0
        names = [
            "chance",
            "majority class",
            "MFCC",
            "student, random",
            "student, copied layers, untrained",
            "student, distilled",
            "student, distilled, with its heads",
            "teacher",
        ]
        written = json.loads(out.read_text())
        assert [row["name"] for row in written["rows"]] == names
        assert [[run["seed"] for run in row["runs"]] for row in written["rows"]] == [[0, 1]] * 8
        # The "distilled" students are fresh ones of the seeds 0 and 1, as the random row's are.
        assert written["rows"][3]["runs"] == written["rows"][5]["runs"]
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("|")[1].strip() for line in lines[4:12]] == names
        assert len({len(line) for line in lines[2:12]}) == 1

    def test_a_thin_student_has_no_row_of_copied_layers(
        self, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        student = make_student(tmp_path / "run", teacher, 0, hidden_size=16)
        table = tones(tmp_path)
        probe.main([f"student={student}", f"table={table}", "label=pitch", "group=speaker", "seeds=0"])
        printed = capsys.readouterr().out
        assert "No row for a student with copied layers" in printed
        assert "student, distilled" in printed
        assert "untrained |" not in printed

    def test_another_teacher_file_than_the_students_is_said(
        self, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        student = make_student(tmp_path / "run", teacher, 0)
        record = json.loads((student / "student" / "config.json").read_text())
        record["teacher"]["sha256"] = "0" * 64
        (student / "student" / "config.json").write_text(json.dumps(record))
        probe.main([f"student={student}", f"table={tones(tmp_path)}", "label=pitch", "seeds=0"])
        assert "is not the file that the student was distilled from" in capsys.readouterr().out

    def test_one_teacher_under_two_names_is_one(
        self, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        students = [make_student(tmp_path / f"run_{seed}", teacher, seed) for seed in (0, 1)]
        path = students[1] / "student" / "config.json"
        record = json.loads(path.read_text())
        monkeypatch.chdir(teacher.parent)
        record["teacher"]["name"] = teacher.name  # relative, as earlier versions wrote it
        path.write_text(json.dumps(record))
        words = [f"student={student}" for student in students]
        table = f"table={tones(tmp_path)}"
        probe.main([*words, table, "label=pitch", "seeds=0,1"])
        assert "student, distilled" in capsys.readouterr().out
        record["teacher"]["sha256"] = "0" * 64
        path.write_text(json.dumps(record))
        with pytest.raises(UserError, match="different teachers"):
            probe.main([*words, table, "label=pitch", "seeds=0,1"])

    def test_speakers_of_the_demo_corpus(
        self, cache: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("SPEECHDISTILL_CACHE", str(cache))
        assert probe.main([f"upstream={teacher}", "data=demo", "label=speaker", "hours=0.02", "seeds=0"]) == 0
        assert "speaker of an utterance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what to probe"),
        (["upstrem=x"], "did you mean 'upstream'"),
        (["x"], "'x' is no KEY=VALUE"),
        (["upstream=x", "data=folder"], "data=folder: allowed is demo"),
        (["upstream=x", "label=word"], "phone or speaker"),
        (["upstream=x", "hours=long"], "hours=long: a number"),
        (["upstream=x", "hours=1", "hours=2"], "hours is given more than once"),
        (["upstream=x", "seeds=0,b"], "seeds=b"),
        (["upstream=x", "seeds=0,-1"], "seeds=-1: whole numbers from 0 up"),
        (["upstream=x", f"seeds={2**32}"], "seeds=4294967296: whole numbers"),
        (["upstream=x", "table=t.csv"], "needs label=COLUMN"),
        (["upstream=x", "table=t.csv", "label=a", "hours=1"], "hours= goes with the demo corpus"),
        (["upstream=x", "group=speaker"], "group= goes with table="),
        (["upstream=x", "teacher=mini"], "to probe a teacher alone"),
        (["upstream=x", "out=/nowhere/at/all.json"], "the folder does not exist"),
        (["upstream=./none"], "no such folder"),
        (["student=./none"], "student=./none: no such folder"),
        (["upstream=x", "folds=3", "table=t.csv", "label=a"], "folds= goes with group="),
        (["upstream=x", "folds=b", "table=t.csv", "label=a", "group=b"], "folds=b: a whole number"),
        (["model=x", "student=y"], "model= and student= are two names of one key"),
    ],
)
def test_words_that_make_no_probe(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        probe.main(words)


def test_a_folder_that_is_neither_student_nor_teacher(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is neither a student"):
        probe.main([f"upstream={tmp_path}"])


def test_seeds_go_with_students(students: list[Path]) -> None:
    with pytest.raises(UserError, match="2 students and 3 seeds"):
        probe.main([*(f"student={folder}" for folder in students), "seeds=0,1,2"])
