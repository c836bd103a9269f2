"""A teacher of any depth and width: sizes of the student are derived, at the true size on the meta device."""

import pytest
import torch
from transformers import AutoModel, HubertConfig

from speechdistill.compose import configure
from speechdistill.evaluation.cost import num_params
from speechdistill.models.derive import derive_config, student_depth
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective

# HuBERT Large (arXiv:2106.07447): what its published config.json says, but for the convolutions' biases.
LARGE = HubertConfig(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
    conv_bias=True,
)


@pytest.mark.parametrize(
    ("recipe", "depth", "width", "intermediate", "predicted"),
    [("distilhubert", 2, 1024, 4096, [8, 16, 24]), ("fithubert", 24, 640, 640, list(range(1, 25)))],
)
def test_students_of_hubert_large(recipe, depth, width, intermediate, predicted):
    config = configure("train", [f"recipe={recipe}", "teacher=hubert_large", "data=folder", "data.root=/x"])
    architecture = config["architecture"]
    assert student_depth(architecture, 24) == depth
    objective = build_objective(config["objective"], depth, 24, architecture["heads"], seed=0)
    heads = objective.head_records(LARGE.hidden_size, architecture["heads"])
    assert heads["teacher_layers"] == predicted
    student_config = derive_config(architecture, LARGE, heads=heads)
    assert student_config.hidden_size == width
    assert student_config.layers[0]["intermediate_size"] == intermediate
    assert student_config.norm_placement == "pre"
    assert student_config.normalize_waveforms
    with torch.device("meta"):
        student = StudentForDistillation(student_config)
        teacher = AutoModel.from_config(LARGE)
    assert num_params(teacher) == 315_438_720
    assert num_params(student.student) < num_params(teacher) / 4
    assert student_config.heads["teacher_hidden_size"] == 1024
