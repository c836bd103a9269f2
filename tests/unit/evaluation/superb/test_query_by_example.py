import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.query_by_example import _Features, check_tree, run_qbe
from speechdistill.evaluation.superb.task_data import TaskData


@pytest.mark.usefixtures("forkserver")
def test_log_mel_finds_words_and_a_second_call_searches_nothing_again(
    demo: Callable[[str], TaskData], tmp_path: Path
) -> None:
    told: list[str] = []
    metrics = run_qbe("fbank", {}, demo("qbe"), tmp_path, "cpu", told.append)
    assert metrics["mtwv"] == metrics["mtwv_eval"] == metrics["mtwv_eval_searched"]
    assert metrics["mtwv_dev"] == metrics["mtwv_dev_layer_0"]
    assert metrics["layer"] == 0
    assert 1 < metrics["mtwv"] <= 100
    assert told[-1].startswith("layer 0: MTWV")
    assert not (tmp_path / "features").exists()
    results = sorted(path.parent.name for path in tmp_path.rglob("benchmark.stdlist.xml"))
    assert results == ["dev_layer_0", "eval_layer_0"]
    times = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.xml")]
    assert run_qbe("fbank", {}, demo("qbe"), tmp_path) == metrics
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.xml")] == times


def test_other_languages_count_as_missed(demo: Callable[[str], TaskData], tmp_path: Path) -> None:
    """A query and a document that SUPERB does not search, as in the official tree, lower the figure."""
    root = tmp_path / "tree"
    shutil.copytree(demo("qbe").tests[0], root)
    document = (
        (root / "scoring" / "language_key_utterances.lst").read_text().splitlines()[0].split("/")[-1].split(".")[0]
    )
    with (root / "scoring" / "groundtruth_quesst14_eval" / "quesst14_eval.rttm").open("a") as file:
        file.write(f"LEXEME {document} 1 0.00 1.00 romanian lex <NA> <NA>\n")
    with (root / "scoring" / "language_key_utterances.lst").open("a") as file:
        file.writelines(f"demo/Audio/other{number}.wav romanian\n" for number in range(3))
    metrics = run_qbe("fbank", {}, TaskData(None, None, (root,)), tmp_path / "run")
    assert metrics["mtwv_eval"] < metrics["mtwv_eval_searched"]


def test_a_tree_that_lacks_something(demo: Callable[[str], TaskData], tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no scoring/language_key_utterances\.lst.*Expected is the folder quesst14Data"
    ):
        check_tree(tmp_path)
    root = tmp_path / "tree"
    shutil.copytree(demo("qbe").tests[0], root)
    shutil.rmtree(root / "Audio")
    with pytest.raises(UserError, match=r"\.wav: no such file, but the lists in .*scoring name it"):
        run_qbe("fbank", {}, TaskData(None, None, (root,)), tmp_path / "run")


def test_one_name_in_three_sets_is_three_recordings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {"dev": "dev_queries", "eval": "eval_queries", "utterances": "Audio"}
    (tmp_path / "scoring").mkdir()
    for seconds, (name, folder) in enumerate(parts.items(), start=1):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "q1.wav", 0.1 * rng.standard_normal(1600 * seconds), 16000)
        (tmp_path / "scoring" / f"language_key_{name}.lst").write_text(f"demo/{folder}/q1.wav nnenglish\n")
    features = _Features(tmp_path / "features", "fbank", {}, "cpu")
    assert [features.extract(tmp_path, part, print) for part in ("dev", "eval")] == [(["q1"], ["q1"])] * 2
    lengths = [len(next(features.read(part, ["q1"], 0))) for part in ("dev", "eval", "documents")]
    assert lengths == sorted(set(lengths)), "0.1, 0.2 and 0.3 s"

    with (tmp_path / "scoring" / "language_key_dev.lst").open("a") as file:
        file.write("demo/Audio/q1.wav nnenglish\n")
    with pytest.raises(UserError, match=r"dev_queries/q1\.wav and Audio/q1\.wav have one name, 'q1', among the dev q"):
        features.extract(tmp_path, "dev", print)
