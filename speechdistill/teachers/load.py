"""One adaptor for every teacher: HuBERT, WavLM, wav2vec 2.0 and data2vec-audio in Hugging Face's format."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from speechdistill.batch import Taps, WaveBatch
from speechdistill.errors import UserError, reason
from speechdistill.frames import SAMPLE_RATE_HZ, num_frames, padding_mask
from speechdistill.models.derive import feature_norm
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.teachers.conversion import without_mask_embedding
from speechdistill.teachers.hasten import hasten
from speechdistill.teachers.legacy import is_legacy, load_legacy

MODEL_TYPES = ("hubert", "wavlm", "wav2vec2", "data2vec-audio")
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

    Args:
        model: a Hugging Face encoder of one of MODEL_TYPES.
        source: where it comes from.
    """

    def __init__(self, model: Any, source: TeacherSource) -> None:
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        hasten(self.model)
        self.source = source
        self.config: Any = self.model.config
        self.num_params = sum(parameter.numel() for parameter in model.parameters())
        # What the models were trained with, whatever their preprocessor files say:
        # group-norm front ends were fed raw waveforms, layer-norm front ends normalised ones.
        self.normalizes_waveforms: bool = feature_norm(self.config) == "layer"

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
        self.model.encoder.layers = self.model.encoder.layers[: max(1, highest_layer)]

    @torch.no_grad()
    def forward(
        self, batch: WaveBatch, layers: Collection[int] | None = None, feed_forward: Collection[int] = ()
    ) -> Taps:
        """Compute hidden states, and outputs of feed-forward networks.

        Args:
            batch: waveforms (B, S) with their lengths.
            layers: which hidden states to return, 0 .. num_layers; None returns all.
            feed_forward: of which layers, 1 .. num_layers, to return what the second linear map of the feed-forward
                network makes, in front of dropout, residual and norm (fairseq's `layer_result`).

        Returns:
            Taps with "hidden" and "feed_forward": {layer: (B, T, D)} in the teacher's own dtype.

        Raises:
            ValueError: a layer that the teacher does not have.
        """
        # The teacher has its own precision; the student's autocast ends here.
        with torch.autocast(batch.waveforms.device.type, enabled=False):
            return self.taps(batch, layers, feed_forward)

    def taps(self, batch: WaveBatch, layers: Collection[int] | None = None, feed_forward: Collection[int] = ()) -> Taps:
        """What `forward` does, with the caller's gradients and precision: for those who train the teacher's encoder."""
        wanted = range(self.num_layers + 1) if layers is None else sorted(set(layers))
        for lowest, asked in ((0, wanted), (1, feed_forward)):
            if unknown := [layer for layer in asked if not lowest <= layer <= self.num_layers]:
                raise ValueError(f"teacher layers {unknown}: {self.source.name} has {lowest} to {self.num_layers}")
        hidden: dict[int, Tensor] = {}
        inner: dict[int, Tensor] = {}
        hooks = []
        for layer in sorted(set(feed_forward)):
            module = self.model.encoder.layers[layer - 1].feed_forward.output_dense
            hooks.append(module.register_forward_hook(partial(_keep_output, inner, layer)))
        if 0 in wanted:
            hooks.append(self.model.encoder.layers[0].register_forward_pre_hook(partial(_keep_input, hidden)))
        for layer in wanted:
            if layer > 0:
                module = self.model.encoder.layers[layer - 1]
                hooks.append(module.register_forward_hook(partial(_keep_output, hidden, layer)))
        size = batch.waveforms.shape[1]
        dtype = next(self.model.parameters()).dtype
        waveforms = batch.waveforms
        if self.normalizes_waveforms:
            waveforms = normalize_waveforms(waveforms, batch.num_samples if batch.is_padded else None)
        frames = num_frames(batch.num_samples, self.conv_stack)
        mask = (~padding_mask(batch.num_samples, size)).long() if batch.is_padded else None
        if batch.is_padded:
            # data2vec-audio has several positional convolutions, one behind the other, and transformers masks padding
            # only in front of the first: what it makes of padding would come back into the last real frames.
            for layer in getattr(self.model.encoder.pos_conv_embed, "layers", ()):
                hooks.append(layer.register_forward_hook(partial(_silence_padding, frames)))
        try:
            self.model(waveforms.to(dtype), attention_mask=mask)
        finally:
            for hook in hooks:
                hook.remove()
        return Taps({"hidden": hidden, "feed_forward": inner}, frames)

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
        raise UserError(f"teacher.name={name} is a {config.model_type} model; teachers are {', '.join(MODEL_TYPES)}.")
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


def _keep_input(hidden: dict[int, Tensor], _: nn.Module, inputs: tuple[Any, ...]) -> None:
    hidden[0] = inputs[0]


def _keep_output(hidden: dict[int, Tensor], layer: int, _: nn.Module, inputs: Any, output: Any) -> None:
    hidden[layer] = output[0] if isinstance(output, tuple) else output


def _silence_padding(frames: Tensor, _: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.masked_fill(padding_mask(frames, output.shape[-1])[:, None], 0)
