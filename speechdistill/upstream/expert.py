"""The upstream: a student or a teacher behind the interface that s3prl asks of one. It needs no s3prl itself."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from speechdistill.errors import UserError
from speechdistill.upstream.encoders import States, open_encoder
from speechdistill.upstream.random_state import unchanged_random_state

STATES = ("hidden", "predicted", "both")
DEFAULTS: dict[str, Any] = {"layers": "all", "states": "hidden", "upsample": True, "subnet": None, "untrained": None}


class UpstreamExpert(nn.Module):
    """An encoder as s3prl (Yang et al., SUPERB, arXiv:2105.01051) uses one.

    It makes ceil(samples / hop) frames of a recording, as s3prl reckons them; the convolutions make up to two fewer,
    and the last one is repeated, as s3prl itself does. A recording shorter than one frame is filled up with zeros.

    A recording in a batch gets the states that it gets alone, up to rounding, where the front end has layer norms. The
    group norm of HuBERT Base's front end takes its statistics over the whole row, padding included: there the states
    of a shorter recording depend on the longest one in the batch, as in s3prl's own upstreams.

    Args:
        ckpt: student folder, run's folder, teacher ("mini", a folder, a hub id), or an exported model.pt.
        model_config: options as a mapping, or a YAML file of them (run_downstream's -g).
        refresh: taken because s3prl passes it; nothing is downloaded anew.
        options: `states`: "hidden" (hidden states of the encoder, 0 to L; the default: what DistilHuBERT's paper
            scored are hidden states, its layer L alone), "predicted" (what the prediction heads make of the last
            one, ascending by teacher layer) or "both".
            `layers`: "all", "last", or the ones to return, by the student's index for hidden states, by the
            teacher's for predicted ones. s3prl's own selection cannot take a single layer.
            `upsample`: False = a time-reduced student's own rate (40 ms); others ignore it.
            `subnet`: of a supernet: "smallest", "published", "largest", or {hidden_size, num_attention_heads,
            ffn_ratio, depth}.
            `untrained`: a seed = the student's shape with random weights, the row that a distilled one is to beat.

    Raises:
        UserError: no such encoder, or an option or a value that does not exist.
    """

    def __init__(
        self, ckpt: str | None = None, model_config: Any = None, refresh: bool = False, **options: Any
    ) -> None:
        super().__init__()
        chosen: dict[str, Any] = {**DEFAULTS, **_options(model_config), **options}
        _check(chosen)
        if ckpt is None:
            raise UserError("what to load? Name a student's folder: path_or_url=DIR, or -k DIR on a command line.")
        self.states: str = chosen["states"]
        with unchanged_random_state():
            heads = self.states != "hidden"
            self.encoder = open_encoder(str(ckpt), heads, chosen["subnet"], chosen["untrained"])
        # Frames at 20 ms that make one of ours.
        self.group = 1 if chosen["upsample"] else self.encoder.reduction
        if self.states == "both" and self.encoder.hidden_size != self.encoder.predicted_size:
            raise UserError(
                f"states=both: hidden states are {self.encoder.hidden_size} wide, predicted ones "
                f"{self.encoder.predicted_size}; s3prl adds states of one width. Choose states=hidden or predicted."
            )
        self.layers = _layers(chosen["layers"], self.states, self.encoder.hidden_layers, self.encoder.predicted_layers)

    def get_downsample_rates(self, key: str) -> int:
        """Samples from frame to frame, of whatever the forward returns."""
        return self.encoder.hop_samples * self.group

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Encode recordings.

        Args:
            wavs: each (S,) floating point at 16 kHz in [-1, 1], of any length from 1 up.

        Returns:
            hidden_states: a list of (B, T, D), T = ceil(longest / hop), behind a row's end its last frame;
            last_hidden_state: (B, T, D), the encoder's output (after the final norm of a pre-norm encoder), or the
            prediction of the highest teacher layer where predictions are asked for.

        Raises:
            ValueError: no recording, an empty one, or one that is not (S,).
        """
        if not wavs or any(wav.ndim != 1 or not len(wav) for wav in wavs):
            raise ValueError(f"recordings of the shapes {[tuple(wav.shape) for wav in wavs]}; allowed: (samples,) each")
        waveforms = pad_sequence(list(wavs), batch_first=True)
        # On the CPU, where a look at them costs no wait.
        lengths = torch.tensor([len(wav) for wav in wavs])
        shortest = self.encoder.window_samples
        waveforms = F.pad(waveforms, (0, max(0, shortest - waveforms.shape[1])))
        states = self.encoder(waveforms, lengths.clamp(min=shortest))
        num_frames = -(-max(map(len, wavs)) // self.get_downsample_rates("hidden_states"))
        hidden, last = self._select(states, num_frames)
        return {"hidden_states": hidden, "last_hidden_state": last}

    def _select(self, states: States, size: int) -> tuple[list[Tensor], Tensor]:
        """The states that were asked for and the last one, `size` frames of each."""
        hidden = self._frames(states.num_frames, size)
        if self.states == "hidden":
            return [hidden(states.hidden[layer]) for layer in self.layers], hidden(states.last)
        of_heads = self._frames(states.num_predicted, size)
        predicted = {layer: of_heads(state) for layer, state in states.predicted.items()}
        last = predicted[self.encoder.predicted_layers[-1]]
        if self.states == "predicted":
            return [predicted[layer] for layer in self.layers], last
        return [*map(hidden, states.hidden.values()), *predicted.values()], last

    def _frames(self, num_frames: Tensor, size: int) -> Callable[[Tensor], Tensor]:
        """How to take `size` frames of a state: the real ones of each row, then the last of them again.

        At a time-reduced student's own rate each is the mean of a group: behind the reduction all of a group are
        equal; the layers in front of it come down to the same length.
        """
        places = torch.arange(size * self.group, device=num_frames.device)
        places = torch.minimum(places, num_frames[:, None] - 1)
        rows = torch.arange(len(num_frames), device=num_frames.device)[:, None]
        if self.group == 1:
            return lambda state: state[rows, places]
        return lambda state: state[rows, places].unflatten(1, (size, self.group)).mean(2)


def _options(model_config: Any) -> Mapping[str, Any]:
    if model_config is None or isinstance(model_config, Mapping):
        return model_config or {}
    try:
        options = yaml.safe_load(Path(model_config).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"model_config={model_config} cannot be read: {error}") from error
    if not isinstance(options, Mapping):
        raise UserError(f"model_config={model_config} holds no options; they are {', '.join(DEFAULTS)}.")
    return options


def _check(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in DEFAULTS:
            near = difflib.get_close_matches(name, DEFAULTS, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise UserError(f"the upstream has no option {name!r}{hint}; options are {', '.join(DEFAULTS)}.")
    if options["states"] not in STATES:
        raise UserError(f"states={options['states']}: allowed are {', '.join(STATES)}.")
    if not isinstance(options["subnet"], str | Mapping | None):
        raise UserError(f"subnet={options['subnet']}: give a name, or the sizes by name.")
    if options["untrained"] is not None and type(options["untrained"]) is not int:
        raise UserError(f"untrained={options['untrained']}: give a seed, or null.")
    if not isinstance(options["upsample"], bool):
        raise UserError(f"upsample={options['upsample']}: allowed are true and false.")


def _layers(wanted: Any, states: str, hidden: Sequence[int], predicted: Sequence[int]) -> list[int]:
    known = hidden if states == "hidden" else predicted
    if wanted == "all":
        return list(known)
    if states == "both":
        raise UserError(f"layers={wanted} goes with states=hidden or states=predicted, not with both.")
    if wanted == "last":
        return [known[-1]]
    words = wanted.strip("[]()").split(",") if isinstance(wanted, str) else wanted
    words = words if isinstance(words, Sequence) else [words]
    try:
        layers = [int(word) for word in words]
    except (TypeError, ValueError):
        layers = []
    if not layers or not set(layers) <= set(known):
        raise UserError(f"layers={wanted}: allowed are all, last, or some of {', '.join(map(str, known))}.")
    return layers
