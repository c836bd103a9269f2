"""Query by example on QUESST 2014 or a tree like it: s3prl's dynamic time warping, our MTWV. Nothing is trained.

SUPERB's rule: every layer searches with the dev queries, and the one with the best MTWV searches with the eval queries.
"""

import contextlib
import io
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.term_weighted_value import Mtwv, max_term_weighted_value, read_ground_truth
from speechdistill.upstream import torchaudio_compat
from speechdistill.upstream.register import forked_processes, register

SETS = ("dev", "eval")
# s3prl's defaults for this task (downstream/quesst14_dtw/config.yaml, which its wheel lacks).
SETTINGS: dict[str, Any] = {
    "max_workers": None,  # all cores
    "feature_normalization": True,
    "silence_frame": None,
    "dtwrc": {"dist_method": "cosine_exp", "minmax_norm": True, "step_pattern": "asymmetric", "subsequence": True},
}
_DOCUMENTS = "documents"
_RESULT = "benchmark.stdlist.xml"


def run_qbe(
    upstream: str,
    upstream_options: Mapping[str, Any],
    data: TaskData,
    folder: Path,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Search with every layer, choose one on the dev queries, report it on the eval queries.

    A second call goes on where the first one ended: a layer whose result is there is not searched again. The folder is
    one upstream's. Features of all layers lie in it while it runs.

    Args:
        upstream: a name that s3prl.hub knows, ours among them.
        upstream_options: of s3prl's S3PRLUpstream: path_or_url, extra_conf, normalize, refresh.
        data: its one test is the root of the tree.
        folder: takes DEV|EVAL_layer_N/benchmark.stdlist.xml, which QUESST's own scorer reads.
        device: of the upstream; time warping is on the CPU.
        progress: told what is being done.

    Returns:
        mtwv = mtwv_eval, mtwv_dev (all MTWV x 100, as SUPERB shows it), layer (an index of hidden_states),
        mtwv_eval_searched (over the queries and documents alone that were searched; the same where all of the tree
        is), queries_dev, queries_eval, documents, and mtwv_dev_layer_N for each layer.

    Raises:
        UserError: something is missing in the tree.
    """
    root = data.tests[0]
    check_tree(root)
    say = progress or (lambda text: None)
    features = _Features(folder / "features", upstream, upstream_options, device)
    names = {one: features.extract(root, one, say) for one in SETS}
    dev: list[float] = []
    for layer in range(features.num_layers):
        scores = _search(folder, features, "dev", layer, *names["dev"])
        dev.append(100 * _mtwv(root, "dev", scores).value)
        say(f"layer {layer} of 0 to {features.num_layers - 1}: MTWV {dev[-1]:.2f} on the dev queries")
    best = int(np.argmax(dev))
    scores = _search(folder, features, "eval", best, *names["eval"])
    value = 100 * _mtwv(root, "eval", scores).value
    say(f"layer {best}: MTWV {value:.2f} on the eval queries (our scorer, not the official one)")
    queries, documents = names["eval"]
    searched = {
        query: read_ground_truth(_truth_folder(root, "eval")).get(query, set()) & {*documents} for query in queries
    }
    features.remove()
    return {
        "mtwv": value,
        "mtwv_eval": value,
        "mtwv_dev": dev[best],
        "layer": float(best),
        "mtwv_eval_searched": 100 * max_term_weighted_value(scores, searched, len(documents)).value,
        "queries_dev": float(len(names["dev"][0])),
        "queries_eval": float(len(queries)),
        "documents": float(len(documents)),
        **{f"mtwv_dev_layer_{layer}": one for layer, one in enumerate(dev)},
    }


def check_tree(root: Path) -> None:
    """Look for the lists of QUESST 2014's tree.

    Raises:
        UserError: names what is missing, and what is expected.
    """
    wanted = [f"scoring/language_key_{name}.lst" for name in ("utterances", *SETS)]
    wanted += [f"scoring/groundtruth_quesst14_{name}" for name in SETS]
    if missing := [name for name in wanted if not (root / name).exists()]:
        raise UserError(
            f"data.root={root}: no {', '.join(missing)}. Expected is the folder quesst14Database of QUESST 2014, with "
            f"{', '.join(wanted)} and the recordings that the lists name."
        )


class _Features:
    """Hidden states of every recording, on disk: (L, T, D) float32 each, so that memory holds one layer at a time.

    Files are <set>/<name>.npy: a query may be called what a document, or a query of the other set, is called.
    """

    def __init__(self, folder: Path, upstream: str, options: Mapping[str, Any], device: str) -> None:
        register()
        from s3prl.nn import S3PRLUpstream

        self.folder = folder
        self.device = device
        self.model = S3PRLUpstream(upstream, **options).to(device).eval()
        self.num_layers = int(self.model.num_layers)

    def extract(self, root: Path, queries: str, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
        """Encode the queries of a set and the documents; returns the names of both."""
        torchaudio_compat.install()
        from s3prl.downstream.quesst14_dtw.dataset import QUESST14Dataset

        dataset = QUESST14Dataset(queries, dataset_root=str(root))
        if not dataset.n_queries or not dataset.n_docs:
            raise UserError(f"data.root={root}: no {queries} queries, or no documents, in the language nnenglish.")
        paths = {queries: dataset.data[: dataset.n_queries], _DOCUMENTS: dataset.data[dataset.n_queries :]}
        names = {part: _unique_names(root, part, found) for part, found in paths.items()}
        say(f"{dataset.n_queries} {queries} queries, {dataset.n_docs} documents")
        for index, path in enumerate(self._file(part, name) for part, found in names.items() for name in found):
            if not path.exists():
                self._write(path, torch.from_numpy(_recording(dataset, index)))
        return names[queries], names[_DOCUMENTS]

    def _file(self, part: str, name: str) -> Path:
        return self.folder / part / f"{name}.npy"

    @torch.inference_mode()
    def _write(self, path: Path, waveform: Tensor) -> None:
        # Alone, so that nothing depends on what it would be padded to.
        states, lengths = self.model(waveform[None].to(self.device), torch.tensor([len(waveform)], device=self.device))
        stacked = torch.stack([state[0, : int(length[0])] for state, length in zip(states, lengths, strict=True)])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        with partial.open("wb") as file:
            np.save(file, stacked.float().cpu().numpy())
        partial.replace(path)

    def read(self, part: str, names: list[str], layer: int) -> Iterator[Tensor]:
        """(T, D) of each recording of a set."""
        for name in names:
            states = np.load(self._file(part, name), mmap_mode="r")
            yield torch.from_numpy(np.array(states[layer]))

    def remove(self) -> None:
        """Free the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _unique_names(root: Path, part: str, paths: Sequence[Path]) -> list[str]:
    """Names as lists of results and ground truth have them: without folder and ending."""
    files: dict[str, Path] = {}
    for path in paths:
        if path.stem in files:
            raise UserError(
                f"data.root={root}: {files[path.stem].relative_to(root)} and {path.relative_to(root)} have one name, "
                f"{path.stem!r}, among the {part if part == _DOCUMENTS else part + ' queries'}; results are by name: "
                "rename one, or drop one line of scoring/language_key_*.lst."
            )
        files[path.stem] = path
    return list(files)


def _recording(dataset: Any, index: int) -> np.ndarray:
    path = dataset.data[index]
    if not path.is_file():
        raise UserError(f"{path}: no such file, but the lists in {dataset.dataset_root / 'scoring'} name it.")
    return dataset[index][0]


def _search(
    root: Path, features: _Features, part: str, layer: int, queries: list[str], documents: list[str]
) -> dict[str, dict[str, float]]:
    """Score every query of a set against every document, by s3prl's expert."""
    folder = root / f"{part}_layer_{layer}"
    if not (folder / _RESULT).exists():
        from s3prl.downstream.quesst14_dtw.expert import DownstreamExpert

        partial = folder.with_name(f".{folder.name}")
        partial.mkdir(parents=True, exist_ok=True)
        expert = DownstreamExpert(upstream_dim=0, downstream_expert={**SETTINGS, "datarc": {}}, expdir=str(partial))
        expert.test_dataset = SimpleNamespace(n_queries=len(queries), n_docs=len(documents))
        records: dict[str, list[Any]] = defaultdict(list)
        states = [*features.read(part, queries, layer), *features.read(_DOCUMENTS, documents, layer)]
        expert("test", states, [*queries, *documents], records)
        with forked_processes(), contextlib.redirect_stderr(io.StringIO()):  # its own bar, of single pairs
            expert.log_records("test", records=records)
        partial.replace(folder)
    return _read_scores(folder / _RESULT)


def _read_scores(path: Path) -> dict[str, dict[str, float]]:
    """By query and document, from the list that QUESST's scorer reads."""
    return {
        terms.attrib["termid"]: {term.attrib["file"]: float(term.attrib["score"]) for term in terms}
        for terms in ElementTree.parse(path).getroot()
    }


def _truth_folder(root: Path, queries: str) -> Path:
    return root / "scoring" / f"groundtruth_quesst14_{queries}"


def _mtwv(root: Path, queries: str, scores: Mapping[str, Mapping[str, float]]) -> Mtwv:
    """Over all queries and documents of the tree, as QUESST's scorer is called by SUPERB."""
    lines = (root / "scoring" / "language_key_utterances.lst").read_text(encoding="utf-8").splitlines()
    return max_term_weighted_value(
        scores, read_ground_truth(_truth_folder(root, queries)), sum(1 for line in lines if line.strip())
    )
