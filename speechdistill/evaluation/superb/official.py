"""data=official: the corpora of the leaderboard, read by s3prl; what is missing is named, nothing is downloaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from speechdistill.errors import UserError, reason
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.tasks import task_named
from speechdistill.evaluation.superb.word_tables import words_stay_words
from speechdistill.upstream.register import register


class Part(NamedTuple):
    """Something that has to be in data.root.

    Attributes:
        path: of a file or a folder, from data.root.
        what: where it comes from.
    """

    path: str
    what: str


_LIBRISPEECH = (
    Part("train-clean-100", "openslr.org/12"),
    Part("dev-clean", "openslr.org/12"),
    Part("test-clean", "openslr.org/12"),
    Part("SPEAKERS.TXT", "in every archive of openslr.org/12"),
)
_LEXICONS = ("librispeech-lexicon-200k-g2p.txt", "librispeech-lexicon-allothers-g2p.txt")
_VOXCELEB = (Part("dev/wav", "VoxCeleb1, development"), Part("test/wav", "VoxCeleb1, test"))
_SPLIT = Part("iden_split.txt", "www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/iden_split.txt")
_TRIALS = Part("voxceleb1_test_v2.txt", "openslr.org/49")
_SESSIONS = tuple(f"Session{number}" for number in range(1, 6))

EXPECTED: dict[str, tuple[Part, ...]] = {
    "asr": _LIBRISPEECH,
    "pr": (*_LIBRISPEECH, *(Part(name, "huggingface.co/datasets/s3prl/g2p, lexicon/") for name in _LEXICONS)),
    "ks": (
        Part("speech_commands_v0.01", "download.tensorflow.org/data/speech_commands_v0.01.tar.gz, unpacked"),
        Part("speech_commands_test_set_v0.01", "speech_commands_test_set_v0.01.tar.gz, unpacked"),
    ),
    "sid": (*_VOXCELEB, _SPLIT),
    "asv": (*_VOXCELEB, _SPLIT, _TRIALS),
    "sd": tuple(
        Part(f"{part}/{name}", "Kaldi folders of LibriMix with two speakers, made by s3prl's preparation for SUPERB")
        for part in ("train", "dev", "test")
        for name in ("wav.scp", "segments", "utt2spk", "spk2utt", "reco2dur")
    ),
    "ic": tuple(
        Part(name, "Fluent Speech Commands, unpacked")
        for name in ("data/train_data.csv", "data/valid_data.csv", "data/test_data.csv", "wavs")
    ),
    "sf": tuple(
        Part(name, "Audio SNIPS, as s3prl's preparation makes it")
        for name in ("train", "valid", "test", "all.iob.snips.txt")
    ),
    "er": (
        *(Part(name, "IEMOCAP, usc.edu, on request") for name in _SESSIONS),
        *(
            Part(f"iemocap_split/{session}/{name}", "huggingface.co/datasets/s3prl/iemocap_split")
            for session in _SESSIONS
            for name in ("train_meta_data.json", "test_meta_data.json")
        ),
    ),
    "qbe": tuple(
        Part(name, "QUESST 2014, speech.fit.vut.cz")
        for name in (
            "Audio",
            "scoring/language_key_utterances.lst",
            "scoring/language_key_dev.lst",
            "scoring/language_key_eval.lst",
        )
    ),
}


def official_data(task: str, settings: Mapping[str, Any], folder: Path) -> list[TaskData]:
    """Tables of a corpus, made by s3prl's own code; ER has five folds, the others one.

    Args:
        task: its name.
        settings: data.root, data.fold and data.num_workers.
        folder: for the tables.

    Raises:
        UserError: a part is missing; the message says what is expected where.
    """
    root = Path(settings["root"]).expanduser().absolute()
    check_parts(task, root)
    if task == "qbe":
        return [TaskData(None, None, (root,))]
    register()
    if task != "er":
        return [_prepared(task, _arguments(task, root, settings["num_workers"]), folder, root)]
    folds = range(1, 6) if settings["fold"] is None else [settings["fold"]]
    if not set(folds) <= set(range(1, 6)):
        raise UserError(f"data.fold={settings['fold']}: give 1 to 5, or null for all.")
    return [
        _prepared(task, {"iemocap": str(root), "test_fold": fold - 1}, folder / f"fold_{fold}", root) for fold in folds
    ]


def check_parts(task: str, root: Path) -> None:
    """Refuse a folder in which something is missing.

    Raises:
        UserError: with the whole list of what is expected where.
    """
    parts = EXPECTED[task]
    missing = [part for part in parts if not (root / part.path).exists()]
    if not missing:
        return
    listed = "\n".join(
        f"  {'missing' if part in missing else 'found  '}  {part.path}   ({part.what})" for part in parts
    )
    raise UserError(
        f"data.root={root}: {missing[0].path} is missing. task={task} is {task_named(task).corpus} and expects there:\n"
        f"{listed}"
    )


def _arguments(task: str, root: Path, num_workers: int) -> dict[str, Any]:
    if task == "ks":
        first, second = (str(root / part.path) for part in EXPECTED["ks"])
        return {"gsc1": first, "gsc1_test": second}
    if task == "sd":
        return {"data_dir": str(root)}
    if task == "sf":
        return {"dataset_root": root}  # it is divided by
    if task == "asv":
        return {"dataset_root": str(root)}
    return {"dataset_root": str(root), "n_jobs": max(1, num_workers)}


def _prepared(task: str, arguments: dict[str, Any], folder: Path, root: Path) -> TaskData:
    """Have s3prl make the tables, with the lists that it would download laid where it looks for them."""
    import s3prl.problem
    from s3prl.dataio.corpus import voxceleb1sid
    from s3prl.dataio.encoder import g2p

    problem = getattr(s3prl.problem, str(task_named(task).s3prl_class))()
    lists = folder / "lists"
    lists.mkdir(parents=True, exist_ok=True)
    for name in (_SPLIT.path, _TRIALS.path):
        if (root / name).is_file():
            _link(lists / name, root / name)
    if task == "er":
        fold = arguments["test_fold"] + 1
        for part in ("train", "test"):
            source = root / "iemocap_split" / f"Session{fold}" / f"{part}_meta_data.json"
            _link(lists / f"test_session{fold}_{part}_metadata.json", source)
    usage, urls = voxceleb1sid.VoxCeleb1SID._get_standard_usage, g2p._urls_to_filepaths
    try:
        voxceleb1sid.VoxCeleb1SID._get_standard_usage = staticmethod(lambda corpus, cache: usage(corpus, lists))
        g2p._urls_to_filepaths = lambda *urls: [str(root / name) for name in _LEXICONS]
        defaults = {key: value for key, value in problem.default_config()["prepare_data"].items() if value != "???"}
        with words_stay_words():
            found = problem.prepare_data({**defaults, **arguments}, folder, lists, get_path_only=False)
    except (AssertionError, LookupError, OSError, ValueError) as error:
        raise UserError(
            f"data.root={root}: s3prl cannot read {task_named(task).corpus} there ({reason(error)}). Is it whole?"
        ) from error
    finally:
        voxceleb1sid.VoxCeleb1SID._get_standard_usage = staticmethod(usage)
        g2p._urls_to_filepaths = urls
    train, *valid, tests = found
    return TaskData(Path(train), Path(valid[0]) if valid else None, tuple(map(Path, tests)))


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
