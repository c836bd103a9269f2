"""Every spelling of a number format that is in use, in every key that takes one."""

import pytest
from omegaconf import OmegaConf

from speechdistill import precision
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.extract import read_settings as extract_settings
from speechdistill.profile import read_settings as profile_settings

TRAINING = [
    *((word, "32-true") for word in (32, "32", "32-true", "fp32", "float32", "torch.float32")),
    *((word, "bf16-mixed") for word in ("bf16", "bf16-mixed", "BF16", "bfloat16")),
    *((word, "16-mixed") for word in (16, "16", "16-mixed", "fp16", "float16")),
    ("auto", "auto"),
]


@pytest.mark.parametrize(("word", "expected"), TRAINING)
def test_the_precision_of_a_training(word: int | str, expected: str) -> None:
    assert precision.training_precision("trainer.precision", word) == expected


@pytest.mark.parametrize("word", ["32", "bf16", "16", "'32'", '"bf16-mixed"'])
@pytest.mark.parametrize("verb", ["train", "finetune"])
def test_the_configuration_of_a_training_holds_one_spelling(verb: str, word: str) -> None:
    words = {"train": [], "finetune": ["student=mini"]}[verb]
    found = configure(verb, [*words, f"trainer.precision={word}"])["trainer"]["precision"]
    assert found == precision.training_precision("trainer.precision", word.strip("'\""))


def test_a_file_of_ones_own_may_say_it_as_a_number(tmp_path) -> None:
    (tmp_path / "trainer").mkdir()
    text = "defaults:\n  - default\n  - _self_\nprecision: 32\n"
    (tmp_path / "trainer" / "exact.yaml").write_text(text)
    found = configure("train", ["trainer=exact", "--config-dir", str(tmp_path)])
    assert found["trainer"]["precision"] == "32-true"


@pytest.mark.parametrize("word", ["32", "32-true", "fp32"])
def test_a_resumed_run_takes_the_same_precision_in_any_spelling(tmp_path, word: str) -> None:
    OmegaConf.save(configure("train", ["trainer.precision=32"]), tmp_path / "config.yaml")
    assert configure("train", [f"resume={tmp_path}", f"trainer.precision={word}"])["trainer"]["precision"] == "32-true"
    with pytest.raises(UserError, match=r"trainer\.precision cannot change"):
        configure("train", [f"resume={tmp_path}", "trainer.precision=bf16"])


@pytest.mark.parametrize("word", ["8", "fp8", "64-true", "null", "3.2e1", "transformer-engine"])
def test_another_precision_is_one_message_with_those_that_there_are(word: str) -> None:
    expected = rf"trainer\.precision={word}: allowed are auto, 32-true \(32\), bf16-mixed \(bf16\), 16-mixed \(16\)\."
    with pytest.raises(UserError, match=expected):
        configure("train", [f"trainer.precision={word}"])


@pytest.mark.parametrize("word", ["bf16-true", "16-true"])
def test_weights_of_half_precision_are_refused_with_what_to_give(word: str) -> None:
    with pytest.raises(UserError, match=f"{word}: .*float32.* Give {word.replace('true', 'mixed')}"):
        configure("train", [f"trainer.precision={word}"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [("fp32", "float32"), ("32", "float32"), ("bf16", "bfloat16"), ("torch.float16", "float16"), ("half", "float16")],
)
def test_the_dtype_of_a_teacher_and_of_files(word: str, expected: str) -> None:
    assert configure("train", [f"teacher.dtype={word}"])["teacher"]["dtype"] == expected
    words = ["upstream=mini", "data=x", "out=y", f"dtype={word}"]
    if expected == "bfloat16":  # NumPy has none
        with pytest.raises(UserError, match=r"dtype=bf16: allowed are float32 \(32\), float16 \(16\)\."):
            extract_settings(words)
    else:
        assert extract_settings(words)["dtype"] == expected


def test_the_precisions_of_a_profile() -> None:
    found = profile_settings(["student=x", "precision=bfloat16,32"])["precision"]
    assert found == ["bf16", "fp32"]
    with pytest.raises(UserError, match=r"teacher\.dtype=int8: allowed are auto, float32"):
        configure("train", ["teacher.dtype=int8"])
