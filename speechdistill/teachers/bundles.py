"""torchaudio's self-supervised bundles."""

import re
from collections.abc import Iterable, Mapping
from urllib.error import URLError

import torch
import torchaudio
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.teachers.conversion import LAYER, WEIGHT_NORM, EncoderShape, renamed_weights

TORCHAUDIO = "torchaudio:"
# Patterns of torchaudio's names -> Hugging Face's, one after the other.
TORCHAUDIO_NAMES = [
    (r"^encoder\.feature_projection\.", "feature_projection."),
    (r"^encoder\.transformer\.", "encoder."),
    (LAYER + r"attention\.attention\.", r"\1.attention."),
    *WEIGHT_NORM,
]


def bundle_weights(name: str) -> tuple[dict[str, Tensor], EncoderShape, tuple[str, ...]]:
    """Weights, options, names left out of a self-supervised bundle, fetched by torchaudio into torch.hub's cache."""
    bundles = {
        key: bundle
        for key, bundle in vars(torchaudio.pipelines).items()
        if isinstance(bundle, torchaudio.pipelines.Wav2Vec2Bundle) and not hasattr(bundle, "get_labels")
    }
    short = name.removeprefix(TORCHAUDIO)
    if short not in bundles:
        raise UserError(f"teacher.name={name}: torchaudio's self-supervised bundles are {', '.join(sorted(bundles))}.")
    try:
        model = bundles[short].get_model(dl_kwargs={"weights_only": True})
    except (URLError, OSError) as error:
        raise UserError(
            f"teacher.name={name} cannot be fetched: {error}. It needs network once, then {torch.hub.get_dir()} has it."
        ) from error
    except Exception as error:  # a damaged file in the cache: whatever torch's readers raise
        raise UserError(
            f"teacher.name={name}: its file in {torch.hub.get_dir()} cannot be loaded ({type(error).__name__}); "
            "delete it, and it is fetched again."
        ) from error
    model = getattr(model, "model", model)  # those that normalise waveforms are wrapped
    renamed, left_out = renamed_weights(model.state_dict(), TORCHAUDIO_NAMES)
    layer = model.encoder.transformer.layers[0]
    is_wavlm = hasattr(layer.attention, "max_distance")
    family = "wavlm" if is_wavlm else "hubert" if short.startswith("HUBERT") else "wav2vec2"
    shape = EncoderShape(
        family,
        num_heads=layer.attention.num_heads,
        pre_norm=layer.layer_norm_first,
        strides=[conv.stride for conv in model.feature_extractor.conv_layers],
        max_distance=getattr(layer.attention, "max_distance", 0),
    )
    return dict(_unpacked(renamed)), shape, left_out


def _unpacked(weights: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Queries, keys and values apart, which WavLM's attention in torchaudio keeps in one matrix."""
    for key, tensor in weights.items():
        if found := re.search(r"\.in_proj_(weight|bias)$", key):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{key[: found.start()]}.{part}_proj.{found[1]}", piece
        else:
            yield key, tensor
