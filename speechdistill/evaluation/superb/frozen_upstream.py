"""The encoder below a head: s3prl's way of calling it, its weights kept out of checkpoints, its states cached."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from speechdistill.errors import UserError
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.evaluation.fingerprint import state_sha256
from speechdistill.evaluation.superb.feature_cache import FeatureCache
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.upstream.random_state import unchanged_random_state
from speechdistill.upstream.register import NAME, register

if TYPE_CHECKING:
    from s3prl.nn.upstream import S3PRLUpstream

FBANK = "fbank"
# Counts up where the same encoder would make other states, or leave them otherwise, than an earlier version of this.
_FORMAT = 2


class FrozenUpstream(nn.Module):
    """What s3prl's S3PRLUpstream is to a head, for an encoder that never learns.

    The encoder is no sub-module: checkpoints hold the head alone, and no optimizer sees it.

    Args:
        encoder: s3prl's upstream.
        alone: encode each recording alone. s3prl encodes batches that are padded to their longest recording, on which
            the states depend where the front end has a group norm (HuBERT Base).
        cache: where states are kept; implies `alone`.
    """

    def __init__(self, encoder: "S3PRLUpstream", alone: bool, cache: FeatureCache | None) -> None:
        super().__init__()
        self._encoder = [encoder.eval()]
        self.alone = alone or cache is not None
        self.cache = cache
        self.num_layers = encoder.num_layers
        self.hidden_sizes = encoder.hidden_sizes
        self.downsample_rates = encoder.downsample_rates

    @torch.no_grad()
    def forward(self, wavs: Tensor, wavs_len: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Encode recordings.

        Args:
            wavs: (B, S) or (B, S, 1), at 16 kHz.
            wavs_len: (B,) samples.

        Returns:
            For each layer (B, T, D) and (B,) frames. Behind a row's end stands its last frame, where it was encoded
            alone.
        """
        encoder = self._encoder[0].to(wavs.device)
        if not self.alone:
            return encoder(wavs, wavs_len)
        rows = [wav.reshape(-1)[:length] for wav, length in zip(wavs, wavs_len.tolist(), strict=True)]
        states = [self._states(row) for row in rows]
        num_frames = torch.tensor([state.shape[1] for state in states], device=wavs.device)
        longest = max(state.shape[1] for state in states)
        padded = torch.stack([state[:, torch.arange(longest).clamp(max=state.shape[1] - 1)] for state in states], dim=1)
        return list(padded.to(wavs.device)), [num_frames] * self.num_layers

    def _states(self, samples: Tensor) -> Tensor:
        """(L, T, D) of (S,) samples."""
        found = self.cache.find(samples) if self.cache else None
        if found is not None:
            return found
        lengths = torch.tensor([len(samples)], device=samples.device)
        states = torch.cat(self._encoder[0](samples[None], lengths)[0])
        if self.cache is not None:
            self.cache.keep(samples, states)
        return states


def build_upstream(settings: Mapping[str, Any]) -> FrozenUpstream:
    """The upstream that a configuration names; the same one each time, as s3prl asks for it several times a run.

    Args:
        settings: name, options, alone and cache, as `upstream_settings` makes them.
    """
    return _built(json.dumps(settings, sort_keys=True))


@functools.lru_cache(maxsize=1)
def _built(settings: str) -> FrozenUpstream:
    given = json.loads(settings)
    encoder = open_upstream(given["name"], given["options"])
    cache = FeatureCache(Path(given["cache"]), upstream_sha256(encoder, given)) if given["cache"] else None
    return FrozenUpstream(encoder, given["alone"], cache)


def open_upstream(name: str, options: Mapping[str, Any]) -> "S3PRLUpstream":
    """s3prl's upstream: its own log-mel features, or ours.

    Raises:
        UserError: nothing of that name, or options that do not fit it.
    """
    register()
    from s3prl.nn.upstream import S3PRLUpstream  # only now: it needs what `register` puts in place

    entry, arguments = s3prl_arguments(name, options)
    with unchanged_random_state():
        return S3PRLUpstream(entry, **arguments)


def s3prl_arguments(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and arguments of s3prl's S3PRLUpstream."""
    return (FBANK, {}) if name == FBANK else (NAME, {"path_or_url": name, "extra_conf": dict(options)})


def upstream_settings(config: Mapping[str, Any], cache: str | None) -> dict[str, Any]:
    """What `build_upstream` takes, of the configuration of a run.

    Raises:
        UserError: fbank is to be untrained.
    """
    options = {**config["options"], "untrained": config["seed"] if config["untrained"] else None}
    name = config["upstream"]
    if name == FBANK:
        if config["untrained"]:
            raise UserError("untrained=true goes with a student; fbank has no weights.")
        options = {}
    return {"name": name, "options": options, "alone": config["features"]["alone"], "cache": cache}


def upstream_sha256(encoder: "S3PRLUpstream", settings: Mapping[str, Any]) -> str:
    """Of weights, config and options: what the states depend on."""
    is_fbank = settings["name"] == FBANK
    about = [
        _FORMAT,
        settings["options"],
        FBANK if is_fbank else encoder.upstream.encoder.config_sha256,
        encoder.hidden_sizes,
        encoder.downsample_rates,
    ]
    return state_sha256(about, encoder.upstream.state_dict())


def describe_upstream(settings: Mapping[str, Any], label: str) -> dict[str, Any]:
    """What superb.json says of it: name, parameters, multiply-accumulates for a second of audio, hash."""
    encoder = build_upstream(settings)._encoder[0].cpu()
    params = num_params(encoder)

    def forward(waveforms: Tensor) -> Any:
        return encoder(waveforms, torch.tensor([waveforms.shape[1]]))

    return {
        "name": label,
        "params": params,
        "macs_per_second": macs_per_second(forward) if params else 0,
        "sha256": upstream_sha256(encoder, settings),
        "layers": encoder.num_layers,
        "hidden_size": encoder.hidden_sizes[0],
        "frames_per_second": SAMPLE_RATE_HZ / encoder.downsample_rates[0],
    }
