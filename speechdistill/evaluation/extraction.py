"""Hidden states of every recording, as files."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as save_safetensors
from tqdm import tqdm

from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.reading import UnreadableAudioError, read_waveform
from speechdistill.audio.table import Skipped, Table
from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.errors import UserError
from speechdistill.evaluation.features import encoder_features
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.whole_file import whole_file

_ABOUT = "about.json"


def extract(upstream: str, data: str, out: str, layers: str | Sequence[int], format: str, dtype: str) -> str:
    """Write the hidden states of each recording; what is there already is left as it is.

    A recording goes through the encoder alone, so its states depend on nothing else. A time-reduced student's are
    repeated to 20 ms. See the module speechdistill.extract for the arguments.

    Returns:
        What was done, in one line.

    Raises:
        UserError: no such encoder, data or layer, or the folder holds states of another kind.
    """
    model = load_encoder(upstream)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = encoder_features(model.to(device))
    with torch.inference_mode():
        depth = len(features(torch.zeros(SAMPLE_RATE_HZ, device=device))) - 1
    chosen = list(range(depth + 1)) if layers == "all" else [depth] if layers == "last" else [int(n) for n in layers]
    if wrong := [layer for layer in chosen if not 0 <= layer <= depth]:
        raise UserError(f"layers={wrong[0]}: {upstream} has 0 to {depth}.")
    table = _recordings(data)
    folder = Path(out).expanduser().absolute()
    about = {"upstream": upstream, "layers": chosen, "format": format, "dtype": dtype, "frame_seconds": 0.02}
    _open(folder, about)
    names = [_file_name(table, row, format) for row in range(len(table))]
    failed, there = list(table.skipped), 0
    for row in tqdm(range(len(table)), desc="extracting", unit="file", delay=1):
        path = folder / names[row]
        if path.is_file():
            there += 1
            continue
        try:
            waveform = read_waveform(table.path(row), table.first_sample(row), int(table.num_samples[row]))
        except UnreadableAudioError as error:
            failed.append(Skipped(table.paths[row], str(error)))
            continue
        states = features(torch.from_numpy(waveform).to(device))
        _write(path, [states[layer].float().cpu().numpy().astype(dtype) for layer in chosen], chosen, format)
    _write_index(folder, table, names)
    shown = "".join(f"\n  left out: {item.path}: {item.reason}" for item in failed)
    return f"{len(table)} recordings, layers {', '.join(map(str, chosen))}, {there} were there; {folder}{shown}"


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


def _open(folder: Path, about: dict[str, Any]) -> None:
    """Make the folder, or go on in one that holds the same."""
    if (folder / _ABOUT).is_file():
        found = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if changed := [key for key, value in about.items() if found.get(key) != value]:
            key = changed[0]
            raise UserError(f"out={folder} holds states with {key}={found.get(key)}, not {about[key]}: choose another.")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"out={folder} holds something else: choose a new or an empty folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / _ABOUT) as file:
            file.write(json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}.") from error


def _file_name(table: Table, row: int, format: str) -> str:
    """The recording's own path below `out`; with its place in the file where a file holds several recordings."""
    path = Path(table.paths[row])
    inside = path.relative_to(path.anchor) if path.is_absolute() else path
    place = "" if table.first_samples is None else f".{table.first_sample(row)}-{table.num_samples[row]}"
    return f"{inside.as_posix()}{place}.{format}"


def _write(path: Path, states: Sequence[np.ndarray], layers: Sequence[int], format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "wb") as file:
        if format == "npy":
            np.save(file, np.stack(states))
        else:
            file.write(save_safetensors({f"layer_{n:02d}": state for n, state in zip(layers, states, strict=True)}))


def _write_index(folder: Path, table: Table, names: Sequence[str]) -> None:
    with whole_file(folder / "index.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "duration", "split", "file"])
        for row, name in enumerate(names):
            start, length = table.first_sample(row) / SAMPLE_RATE_HZ, int(table.num_samples[row]) / SAMPLE_RATE_HZ
            if (folder / name).is_file():
                writer.writerow([table.path(row), start, length, table.splits[row], name])
