"""Hidden states of every recording, as files."""

import csv
import errno
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save as save_safetensors
from tqdm import tqdm

from speechdistill.alone import alone_in
from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.suffixes import not_read_line
from speechdistill.audio.table import Skipped, Table
from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.errors import UserError
from speechdistill.evaluation.extraction_folder import (
    INDEX,
    file_names,
    index_line,
    open_folder,
    rows_there,
    write_index,
)
from speechdistill.evaluation.features import encoder_features
from speechdistill.evaluation.fingerprint import encoder_sha256
from speechdistill.evaluation.sources import Sources
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.whole_file import whole_file


def extract(
    upstream: str, subnet: str | None, data: str, out: str, layers: str | Sequence[int], format: str, dtype: str
) -> str:
    """Write the hidden states of each recording; what is there already is left as it is.

    A recording goes through the encoder alone, so its states depend on nothing else. A time-reduced student's are
    repeated to 20 ms. See the module speechdistill.extract for the arguments.

    Returns:
        What was done, in one line.

    Raises:
        UserError: no such encoder, data or layer, or the folder holds states of another kind.
    """
    model = load_encoder(upstream, subnet=subnet)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = encoder_features(model.to(device))
    with torch.inference_mode():
        depth = len(features(torch.zeros(SAMPLE_RATE_HZ, device=device))) - 1
    chosen = list(range(depth + 1)) if layers == "all" else [depth] if layers == "last" else [int(n) for n in layers]
    if wrong := [layer for layer in chosen if not 0 <= layer <= depth]:
        raise UserError(f"layers={wrong[0]}: {upstream} has 0 to {depth}.")
    table = _recordings(data)
    folder = Path(out).expanduser().absolute()
    about = {
        "upstream": upstream if subnet is None else f"{upstream} subnet={subnet}",
        "upstream_sha256": encoder_sha256(model),
        "data": str(table.root.resolve()),
        "layers": chosen,
        "format": format,
        "dtype": dtype,
        "frame_seconds": 0.02,
    }
    names = file_names(table, format)

    def write(row: int) -> None:
        waveform = read_waveform(table.path(row), table.first_sample(row), int(table.num_samples[row]))
        states = features(torch.from_numpy(waveform).to(device))
        arrays = [states[layer].float().cpu().numpy().astype(dtype) for layer in chosen]
        _write(folder / names[row], arrays, chosen, format)

    with alone_in(folder, "out"):
        open_folder(folder, about)
        sources = Sources()
        there = rows_there(folder, table, names, sources)
        failed = _write_missing(folder, table, names, there, write, sources)
    shown = "".join(f"\n  left out: {item.path}: {item.reason}" for item in [*table.skipped, *failed])
    if not_read := not_read_line(table.not_read):
        shown += f"\n  {not_read}"
    return f"{len(table)} recordings, layers {', '.join(map(str, chosen))}, {len(there)} were there; {folder}{shown}"


def _write_missing(
    folder: Path,
    table: Table,
    names: Sequence[str],
    there: Collection[int],
    write: Callable[[int], None],
    sources: Sources,
) -> list[Skipped]:
    """Write what is not there; the index has a line for each file as soon as that is whole. Returns what failed."""
    failed, done = [], set(there)
    written: set[str] = set()
    write_index(folder, table, names, done, sources)
    with (folder / INDEX).open("a", encoding="utf-8", errors="backslashreplace", newline="") as index:
        for row in tqdm(range(len(table)), desc="extracting", unit="file", delay=1, disable=None):
            if row in there:
                continue
            try:
                if names[row] not in written:
                    write(row)
            except UnreadableAudioError as error:
                failed.append(Skipped(table.paths[row], str(error)))
                continue
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                failed.append(Skipped(table.paths[row], f"its name is too long for a file {Path(names[row]).name}"))
                continue
            csv.writer(index).writerow(index_line(table, names, row, sources))
            index.flush()
            done.add(row)
            written.add(names[row])
    write_index(folder, table, names, done, sources)
    return failed


def _recordings(data: str) -> Table:
    """The recordings of a folder or a list, however short; damaged ones are listed."""
    path = Path(data).expanduser()
    if data == "demo":
        return demo_corpus(0.5)
    if path.is_dir():
        return folder_corpus(path, min_seconds=1 / SAMPLE_RATE_HZ, max_skipped_share=1.0)
    if path.is_file():
        return manifest_corpus(path, limits=Limits(min_seconds=1 / SAMPLE_RATE_HZ, max_skipped_share=1.0))
    raise UserError(f"data={data}: no such folder, and no such list; data=demo is the demo corpus.")


def _write(path: Path, states: Sequence[np.ndarray], layers: Sequence[int], format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "wb") as file:
        if format == "npy":
            np.save(file, np.stack(states))
        else:
            file.write(save_safetensors({f"layer_{n:02d}": state for n, state in zip(layers, states, strict=True)}))
