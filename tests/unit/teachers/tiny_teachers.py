"""Tiny teachers of every kind, with random weights, as transformers makes them."""

import copy
from typing import Any

import torch
import transformers

from speechdistill.batch import WaveBatch

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.5,
    "attention_dropout": 0.5,
    "activation_dropout": 0.5,
    "feat_proj_dropout": 0.5,
    "layerdrop": 0.5,
    "mask_time_prob": 0.9,
    "mask_time_length": 2,
    "apply_spec_augment": True,
}
_HUBERT_LIKE = {**_SIZES, "num_conv_pos_embeddings": 16}
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

# Kind -> (model class, config): both norms, every family. Their dropouts are large, so that one left on shows.
KINDS: dict[str, tuple[Any, Any]] = {
    "hubert": (transformers.HubertModel, transformers.HubertConfig(**_HUBERT_LIKE)),
    "hubert-large": (transformers.HubertModel, transformers.HubertConfig(**_HUBERT_LIKE, **_LAYER_NORM)),
    "wavlm": (transformers.WavLMModel, transformers.WavLMConfig(**_HUBERT_LIKE)),
    "wavlm-large": (transformers.WavLMModel, transformers.WavLMConfig(**_HUBERT_LIKE, **_LAYER_NORM)),
    "wav2vec2": (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(**_HUBERT_LIKE)),
    "wav2vec2-large": (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(**_HUBERT_LIKE, **_LAYER_NORM)),
    "data2vec": (transformers.Data2VecAudioModel, transformers.Data2VecAudioConfig(**_SIZES, conv_pos_kernel_size=9)),
}


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights that are no identity anywhere: fresh norms and biases would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if is_norm else 0.15 * noise)
    return model


def make(kind: str) -> torch.nn.Module:
    """A model of a kind, in evaluation mode."""
    model_class, config = KINDS[kind]
    return randomised(model_class(copy.deepcopy(config)).eval())  # a test may change it


def wave_batch(lengths: list[int], seed: int = 1) -> WaveBatch:
    """Noise with zeros behind each row's end."""
    counts = torch.tensor(lengths)
    waveforms = 0.3 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(seed)) + 0.1
    waveforms *= torch.arange(max(lengths)) < counts[:, None]
    rows = torch.arange(len(lengths))
    return WaveBatch(waveforms, counts, rows, torch.zeros_like(rows), len(set(lengths)) > 1)
