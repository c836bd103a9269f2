"""A student as a plain HubertModel folder of transformers, which loads without this package."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel

from speechdistill.checkpoints.pretrained import save_pretrained
from speechdistill.errors import UserError
from speechdistill.exporters.graph import Run
from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.config import StudentConfig
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.models.student import StudentModel


def misfits(config: StudentConfig) -> list[str]:
    """What of a student's shape HubertModel has no place for; empty where it fits."""
    wrong = []
    if len({tuple(sorted((key, str(value)) for key, value in layer.items())) for layer in config.layers}) > 1:
        wrong.append("layers: they differ in size or kind of attention")
    first = config.layers[0]
    if any(layer["attention"] != "full" for layer in config.layers):
        kinds = sorted({layer["attention"] for layer in config.layers})
        wrong.append(f"attention: {', '.join(kinds)}, and there is only full")
    if first["num_attention_heads"] * first["head_size"] != config.hidden_size:
        wrong.append(
            f"head_size: {first['num_attention_heads']} heads of {first['head_size']} are not the width, "
            f"{config.hidden_size}"
        )
    if any(layer["intermediate_size"] == 0 for layer in config.layers):
        wrong.append("intermediate_size: a layer has no feed-forward network")
    if config.time_reduction_layer is not None:
        wrong.append(f"time_reduction_factor: {config.time_reduction_factor}")
    if config.positional_convolution["depth"] > 1:
        wrong.append("positional_convolution.depth: data2vec's")
    if config.position_bias is not None:
        wrong.append("position_bias: WavLM's")
    if config.channel_scale:
        wrong.append("channel_scale: factors of the conv features")
    return wrong


def as_hubert(student: StudentModel) -> HubertModel:
    """Make the HubertModel that computes what the student does.

    Raises:
        UserError: the shape does not fit.
    """
    config = student.config
    if wrong := misfits(config):
        raise UserError(
            "transformers' HubertModel has no place for this student's " + "; ".join(wrong) + ". format=onnx and "
            "format=torch_export take every student, and AutoModel loads its own folder after import speechdistill."
        )
    weights = {name.replace("feature_encoder.", "feature_extractor."): w for name, w in student.state_dict().items()}
    if not config.projection:
        # HubertModel always has a projection: here it changes nothing.
        weights["feature_projection.projection.weight"] = torch.eye(config.hidden_size)
        weights["feature_projection.projection.bias"] = torch.zeros(config.hidden_size)
    hubert = HubertModel(_hubert_config(config)).eval()
    hubert.load_state_dict(weights)
    return hubert


def _hubert_config(config: StudentConfig) -> HubertConfig:
    layer, position = config.layers[0], config.positional_convolution
    channels, kernels, strides = zip(*config.conv_layers, strict=True)
    return HubertConfig(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=layer["num_attention_heads"],
        intermediate_size=layer["intermediate_size"],
        hidden_dropout=config.hidden_dropout,
        attention_dropout=config.attention_dropout,
        activation_dropout=config.activation_dropout,
        feat_proj_dropout=config.feat_proj_dropout,
        final_dropout=0.0,
        layerdrop=0.0,
        layer_norm_eps=config.layer_norm_eps,
        feat_proj_layer_norm=config.projection_layer_norm,
        feat_extract_norm=config.feature_norm,
        conv_dim=channels,
        conv_kernel=kernels,
        conv_stride=strides,
        conv_bias=config.conv_bias,
        num_conv_pos_embeddings=position["kernel_size"],
        num_conv_pos_embedding_groups=position["groups"],
        do_stable_layer_norm=config.norm_placement == "pre",
        # Without a mask embedding there is nothing to mask frames with.
        apply_spec_augment=config.mask_embedding,
        mask_time_prob=0.05 if config.mask_embedding else 0.0,
    )


def write_hubert(student: StudentModel, folder: Path) -> list[Path]:
    """Write config.json, model.safetensors and preprocessor_config.json.

    Raises:
        UserError: the shape does not fit.
    """
    # HubertModel takes waveforms as they come: what the student normalises inside is done by whoever prepares them.
    save_pretrained(folder, as_hubert(student), do_normalize=student.config.normalize_waveforms)
    return [folder / name for name in ("config.json", "model.safetensors", "preprocessor_config.json")]


def hubert_run(folder: Path, student: StudentModel, states: str) -> Run:
    """Load a folder that `write_hubert` wrote, with transformers alone; its outputs in the order of StudentGraph."""
    hubert: Any = HubertModel.from_pretrained(folder).eval()

    def run(waveforms: Tensor, num_samples: Tensor) -> list[Tensor]:
        size, lengths = waveforms.shape[1], num_samples if bool((num_samples < waveforms.shape[1]).any()) else None
        if student.config.normalize_waveforms:
            waveforms = normalize_waveforms(waveforms, lengths)
        mask = None if lengths is None else (~padding_mask(lengths, size)).long()
        output = hubert(waveforms, attention_mask=mask, output_hidden_states=states == "all")
        return [
            output.last_hidden_state,
            num_frames(num_samples, student.config.conv_stack),
            *(output.hidden_states or ()),
        ]

    return run
