"""Teacher-shaped students: a HuBERT, wav2vec 2.0 or WavLM encoder of any source as a student of all its sizes."""

import re

from speechdistill.checkpoints.official.conversion import Conversion
from speechdistill.teachers.conversion import PRE_TRAINING, check_tensors
from speechdistill.teachers.load import Teacher

# What stands beside the encoder in transformers' files of pre-training and of fine-tuned models; x-vectors come last.
_BESIDE = re.compile(
    r"(^|\.)(quantizer|project_hid|project_q|lm_head|projector|classifier|layer_weights|final_proj|label_embs_concat)"
    r"(\.|$)|^(tdnn\.\d+|feature_extractor|objective)\.(kernel\.)?(weight|bias)$"
)


def read(teacher: Teacher) -> Conversion:
    """Make a student of a loaded encoder.

    Raises:
        ValueError: weights that the encoder has no place for.
    """
    known = (key for key in teacher.source.left_out if _BESIDE.search(key) or PRE_TRAINING.match(key))
    if left := set(teacher.source.left_out).difference(known):
        raise ValueError(f"{len(left)} of its weights are left over: {', '.join(sorted(left)[:12])}")
    return Conversion(teacher.model.config, check_tensors(teacher.model.state_dict()), teacher.source.left_out)
