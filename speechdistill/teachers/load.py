"""Teachers: HuBERT, WavLM, wav2vec 2.0, data2vec-audio and their like, frozen, and where they are loaded from."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from speechdistill.batch import Tap, Taps, WaveBatch, hidden
from speechdistill.errors import UserError, reason
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.models.student import StudentModel
from speechdistill.teachers.as_student import FAMILIES as MODEL_TYPES
from speechdistill.teachers.as_student import student_of
from speechdistill.teachers.conversion import without_mask_embedding
from speechdistill.teachers.legacy import is_legacy, load_legacy

MINI = "mini"
_ASSETS = Path(__file__).parents[1] / "assets"
# Only used to mask the input while a teacher is pre-trained; some published files lack it.
_UNUSED_WEIGHTS = ("masked_spec_embed",)
# Of a config, what says nothing about the computation.
_NAMES_IN_CONFIG = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype")
_WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True)
class TeacherSource:
    """Where a teacher comes from.

    Attributes:
        name: as asked for: hub id, folder, file, bundle, or "mini".
        revision: commit of the hub repository, None for a folder.
        sha256: of the weight files, or of the weights where there is no one file.
        left_out: names of weights in the files that the encoder has no place for.
    """

    name: str
    revision: str | None
    sha256: str
    left_out: tuple[str, ...] = ()


def config_sha256(config: transformers.PretrainedConfig) -> str:
    """SHA-256 of what a config says about the computation: the same weights make other states with another one.

    Only what differs from the defaults counts, so that a field that a later transformers adds changes nothing.
    """
    about = {name: value for name, value in config.to_diff_dict().items() if name not in _NAMES_IN_CONFIG}
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


class Teacher(nn.Module):
    """A frozen encoder that yields taps; always in evaluation mode, whoever calls `train()` on it or around it.

    Attributes:
        model: the same network that students are.
        config: transformers' own, of the encoder as it was published.

    Args:
        model: a Hugging Face encoder of one of MODEL_TYPES; its weights become the teacher's.
        source: where it comes from.

    Raises:
        UserError: it has a part that our network lacks.
    """

    def __init__(self, model: Any, source: TeacherSource) -> None:
        super().__init__()
        self.source = source
        self.config: Any = model.config
        try:
            self.model: StudentModel = student_of(model).requires_grad_(False)
        except ValueError as error:
            raise UserError(f"teacher.name={source.name} cannot be a teacher: {error}.") from error
        self.num_params = sum(parameter.numel() for parameter in self.model.parameters())
        # What the models were trained with, whatever their preprocessor files say:
        # group-norm front ends were fed raw waveforms, layer-norm front ends normalised ones.
        self.normalizes_waveforms: bool = self.model.config.normalize_waveforms

    @property
    def num_layers(self) -> int:
        """Transformer layers that are left after `cut`."""
        return len(self.model.encoder.layers)

    @property
    def hidden_size(self) -> int:
        """Width D of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def conv_stack(self) -> list[tuple[int, int]]:
        """(kernel, stride) of each convolution of the front end."""
        return list(zip(self.config.conv_kernel, self.config.conv_stride, strict=True))

    @property
    def config_sha256(self) -> str:
        """SHA-256 of what the config says about the computation: see `config_sha256`."""
        return config_sha256(self.config)

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode: targets made with dropout or layer-drop are noise."""
        return super().train(False)

    def cut(self, highest_layer: int) -> None:
        """Drop the Transformer layers above the highest one that is needed; the first stays: its input is layer 0."""
        kept = max(1, highest_layer)
        self.model.encoder.layers = self.model.encoder.layers[:kept]
        self.model.config.layers = self.model.config.layers[:kept]

    @torch.no_grad()
    def forward(
        self,
        batch: WaveBatch,
        layers: Collection[int] | None = None,
        taps: Collection[Tap] = (),
        masked: Tensor | None = None,
    ) -> Taps:
        """Compute taps.

        Args:
            batch: waveforms (B, S) with their lengths.
            layers: which hidden states to return, 0 .. num_layers; None returns all.
            taps: what else to return.
            masked: (B, T) bool, frames that the Transformer does not get to see.

        Returns:
            Taps by kind and layer, in the teacher's own dtype; "hidden" is always there.

        Raises:
            ValueError: a layer or a tap that the teacher does not have.
        """
        # The teacher has its own precision; the student's autocast ends here.
        with torch.autocast(batch.waveforms.device.type, enabled=False):
            return self.taps(batch, layers, taps, masked)

    def taps(
        self,
        batch: WaveBatch,
        layers: Collection[int] | None = None,
        taps: Collection[Tap] = (),
        masked: Tensor | None = None,
    ) -> Taps:
        """What `forward` does, with the caller's gradients and precision: for those who train the teacher's encoder."""
        wanted = range(self.num_layers + 1) if layers is None else sorted(set(layers))
        if unknown := [layer for layer in wanted if not 0 <= layer <= self.num_layers]:
            raise ValueError(f"teacher layers {unknown}: {self.source.name} has 0 to {self.num_layers}")
        if lacking := [f"{tap.key}, {why}" for tap in taps if (why := self.model.config.lacks(tap))]:
            raise ValueError(f"teacher taps: {self.source.name} has no {lacking[0]}")
        if masked is not None and self.model.masked_spec_embed is None:
            raise UserError(f"teacher.name={self.source.name} has no mask embedding, so it cannot read masked input.")
        lengths = batch.num_samples if batch.is_padded else None
        waveforms = batch.waveforms
        if self.normalizes_waveforms:
            waveforms = normalize_waveforms(waveforms, lengths)
        features = self.model.feature_encoder(waveforms.to(self.model.dtype)).transpose(1, 2)
        asked = sorted({*hidden(wanted), *taps})
        encoded = self.model.encode(waveforms, lengths, masked=masked, features=features, taps=asked)
        found: dict[str, dict[int, Tensor]] = {"hidden": {}}
        for tap in asked:
            found.setdefault(tap.kind, {})[tap.layer] = encoded.taps[tap]
        return Taps(found, encoded.num_frames)

    def describe(self) -> str:
        """One line: what was loaded."""
        stride = 1
        for _, step in self.conv_stack:
            stride *= step
        revision = f" @ {self.source.revision[:12]}" if self.source.revision else ""
        return (
            f"{self.source.name}{revision}: {self.config.model_type}, {self.num_layers} layers of "
            f"{self.hidden_size}, {self.num_params / 1e6:.2f} M parameters, sha256 {self.source.sha256[:12]}, "
            f"{SAMPLE_RATE_HZ / stride:g} frames/s, waveforms {'' if self.normalizes_waveforms else 'not '}normalised, "
            f"{str(next(self.model.parameters()).dtype).removeprefix('torch.')}"
        )


def load_teacher(name: str, revision: str | None = None, dtype: torch.dtype = torch.float32) -> Teacher:
    """Load a teacher by hub id, folder, file or the name "mini" (the one that the package carries).

    Args:
        name: `ID`, `ID@REVISION`, a folder in Hugging Face's format, a .pt file of fairseq or s3prl,
            `torchaudio:NAME`, or "mini".
        revision: branch, tag or commit of the hub repository; not together with `@REVISION`.
        dtype: of the weights and the computation, whatever the file holds.

    Raises:
        UserError: not found, no weights in it, weights missing, or a model of another kind.
    """
    if is_legacy(name):
        if revision:
            raise UserError(f"teacher.revision={revision}: {name} has no revisions.")
        model, sha256, left_out = load_legacy(name, dtype)
        return Teacher(model, TeacherSource(name, None, sha256, left_out))
    hub_id, at, pinned = name.partition("@")
    if Path(name).expanduser().is_dir():
        hub_id, at, pinned = name, "", ""
    if at and revision:
        raise UserError(f"teacher.name={name} and teacher.revision={revision} both name a revision: drop one.")
    revision = pinned or revision
    folder = _ASSETS / "hubert_mini" if name == MINI else Path(hub_id).expanduser()
    if folder.is_dir():
        if revision:
            raise UserError(f"teacher.revision={revision}: {folder} is a folder, which has no revisions.")
        if not any((folder / file).is_file() for file in _WEIGHT_FILES):
            raise UserError(
                f"teacher.name={name} is a folder without weights: none of {', '.join(_WEIGHT_FILES)} in it. "
                "Point it at a folder that save_pretrained wrote."
            )
        _check_index(name, folder)
        location = str(folder)
    elif name == MINI or hub_id.startswith((".", "/", "~")) or hub_id.count("/") > 1:
        raise UserError(f"teacher.name={name}: no such folder.")
    else:
        location = hub_id
    model, left_out = _from_pretrained(name, location, revision, dtype)
    commit = None
    if not folder.is_dir():
        folder = _snapshot(location, revision)
        commit = folder.name
    return Teacher(model, TeacherSource(name, commit, _hash(folder), left_out))


def _check_index(name: str, folder: Path) -> None:
    """Refuse a list of weight files that leads out of its folder."""
    for index in folder.glob("*.index.json"):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"teacher.name={name}: {index.name} lists no weights.") from error
        if outside := sorted(str(file) for file in named if not isinstance(file, str) or Path(file).name != file):
            raise UserError(f"teacher.name={name}: {index.name} names {outside[0]!r}, which is not in its folder.")


def _from_pretrained(
    name: str, location: str, revision: str | None, dtype: torch.dtype
) -> tuple[nn.Module, tuple[str, ...]]:
    """Load the bare encoder and insist on every weight; also the names of weights that it has no place for."""
    # Without the word about code transformers asks on the terminal whether to run what lies beside config.json.
    options: dict[str, Any] = {"trust_remote_code": False, **({"revision": revision} if revision else {})}
    quietly = _silenced(transformers_logging)
    try:
        config = quietly(lambda: transformers.AutoConfig.from_pretrained(location, **options))
    except Exception as error:  # over an odd config.json transformers raises whatever it stumbles over
        raise UserError(
            f"teacher.name={name} cannot be loaded: {reason(error)}.\nGive a Hugging Face id (with network), "
            f"a folder that save_pretrained wrote, or teacher={MINI}."
        ) from error
    if config.model_type not in MODEL_TYPES:
        raise UserError(
            f"teacher.name={name} is a {config.model_type} model; teachers are {', '.join(MODEL_TYPES)}. Others read "
            "other input, or make other frames."
        )
    try:
        model, info = quietly(
            lambda: transformers.AutoModel.from_pretrained(
                location,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **options,
            )
        )
    except UnpicklingError as error:
        raise UserError(
            f"teacher.name={name}: its weights cannot be loaded: the file is damaged, or it holds more than tensors, "
            "and nothing in a file is ever executed."
        ) from error
    except Exception as error:  # as above, and what readers of damaged files raise
        raise UserError(f"teacher.name={name}: its weights cannot be loaded: {reason(error)}.") from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith(_UNUSED_WEIGHTS))
    if missing or info["mismatched_keys"]:
        wrong = missing or sorted(str(key) for key in info["mismatched_keys"])
        raise UserError(
            f"teacher.name={name}: {len(wrong)} weights are missing or of another shape, the first: "
            f"{', '.join(map(str, wrong[:5]))}. The file does not fit its config.json."
        )
    if len(info["missing_keys"]) > len(missing):
        without_mask_embedding(model)
    return model, tuple(sorted(map(str, info["unexpected_keys"])))


def _silenced(log: Any) -> Callable[[Callable[[], Any]], Any]:
    """Run something without transformers' loading report: what it would say is checked here instead."""

    def run(call: Callable[[], Any]) -> Any:
        level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity_error()
        log.disable_progress_bar()
        try:
            return call()
        finally:
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()

    return run


def _snapshot(hub_id: str, revision: str | None) -> Path:
    """The folder of the hub's cache that a model was just loaded from; its name is the commit."""
    return Path(cached_file(hub_id, "config.json", revision=revision or "main", local_files_only=True)).parent


def _hash(folder: Path) -> str:
    """SHA-256 over the weight files, whatever precision they are loaded in."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin"):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
