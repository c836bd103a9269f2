"""Teacher-shaped students: a HuBERT, wav2vec 2.0 or WavLM encoder of any source as a student of all its sizes."""

import re

from speechdistill.checkpoints.official.conversion import Conversion, config_of, layers_of, renamed
from speechdistill.teachers.conversion import PRE_TRAINING, check_tensors
from speechdistill.teachers.load import Teacher

FAMILIES = ("hubert", "wavlm", "wav2vec2")
# What stands beside the encoder in transformers' files of pre-training and of fine-tuned models; x-vectors come last.
_BESIDE = re.compile(
    r"(^|\.)(quantizer|project_hid|project_q|lm_head|projector|classifier|layer_weights|final_proj|label_embs_concat)"
    r"(\.|$)|^(tdnn\.\d+|feature_extractor|objective)\.(kernel\.)?(weight|bias)$"
)


def read(teacher: Teacher) -> Conversion:
    """Make a student of a loaded encoder.

    Raises:
        ValueError: another family, a part that students do not have, or weights that the encoder has no place for.
    """
    config = teacher.config
    if config.model_type not in FAMILIES:
        raise ValueError(f"it is a {config.model_type} encoder; students of the same shape are {', '.join(FAMILIES)}")
    known = (key for key in teacher.source.left_out if _BESIDE.search(key) or PRE_TRAINING.match(key))
    if left := set(teacher.source.left_out).difference(known):
        raise ValueError(f"{len(left)} of its weights are left over: {', '.join(sorted(left)[:12])}")
    for name in ("hidden_act", "feat_extract_activation"):
        if (activation := getattr(config, name)) != "gelu":
            raise ValueError(f"its {name} is {activation}; students have gelu")
    weights = renamed(check_tensors(teacher.model.state_dict()), [])
    is_wavlm = config.model_type == "wavlm"
    heads = config.num_attention_heads
    layers = layers_of(weights, [heads] * config.num_hidden_layers, "relative" if is_wavlm else "full")
    rest = {}
    if is_wavlm:
        layers = [{**layer, "position_heads": list(range(heads))} for layer in layers]
        sizes = {"num_buckets": config.num_buckets, "max_distance": config.max_bucket_distance, "num_heads": heads}
        rest["position_bias"] = sizes
    student = config_of(
        weights,
        config.conv_stride,
        layers,
        feature_grad_mult=1.0,
        normalize_waveforms=teacher.normalizes_waveforms,
        norm_placement="pre" if config.do_stable_layer_norm else "post",
        layer_norm_eps=config.layer_norm_eps,
        hidden_dropout=config.hidden_dropout,
        attention_dropout=config.attention_dropout,
        activation_dropout=config.activation_dropout,
        feat_proj_dropout=config.feat_proj_dropout,
        **rest,
    )
    return Conversion(student, weights, teacher.source.left_out)
