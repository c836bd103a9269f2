"""A student's shape and first weights, from its teacher."""

import pytest
import torch
import transformers
import yaml

from speechdistill.errors import UserError
from speechdistill.models.config import uniform_layers
from speechdistill.models.derive import copy_from_teacher, derive_config
from speechdistill.models.student import StudentForDistillation, StudentModel
from tests.unit.teachers.tiny_teachers import KINDS, make

ARCHITECTURE = {
    "num_hidden_layers": 2,
    "hidden_size": None,
    "num_attention_heads": None,
    "intermediate_size": None,
    "heads": "joint",
    "projection_layer_norm": False,
    "feature_grad_mult": 0.1,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "feat_proj_dropout": 0.0,
    "attention": "full",
    "layers": None,
    "position_bias": None,
    "projection": True,
    "channel_scale": False,
    "layer_grad_scale": False,
}
COPIED = ["feature_encoder", "projection", "positional_convolution", "layers"]


def started(kind: str, parts=COPIED, **changes):
    """A student and its fresh twin, the first started from a tiny teacher."""
    teacher = make(kind)
    config = derive_config({**ARCHITECTURE, **changes}, teacher.config, [1, 2, 4])
    torch.manual_seed(0)
    student = StudentModel(config)
    fresh = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    copied, left = copy_from_teacher(student, teacher.state_dict(), parts)
    return student, fresh, teacher.state_dict(), copied, left


def theirs(name: str) -> str:
    return name.replace("feature_encoder.", "feature_extractor.", 1)


def test_the_recipes_architecture_is_the_one_tested_here(pytestconfig):
    text = (pytestconfig.rootpath / "configs" / "architecture" / "distilhubert.yaml").read_text()
    assert yaml.safe_load(text) == {**ARCHITECTURE, "copied_parts": COPIED}


def test_distilhubert_of_hubert_base_has_the_papers_parameters():
    config = derive_config(ARCHITECTURE, transformers.HubertConfig(), [4, 8, 12], {"name": "x"})
    with torch.device("meta"):
        student = StudentForDistillation(config)
    assert sum(parameter.numel() for parameter in student.student.parameters()) == 23_491_200
    assert sum(parameter.numel() for parameter in student.parameters()) == 27_034_752
    assert config.heads == {"kind": "joint", "tap": "hidden", "teacher_layers": [4, 8, 12], "teacher_hidden_size": 768}
    assert config.teacher == {"name": "x"}
    assert config.norm_placement == "post"
    assert not config.normalize_waveforms
    assert not config.projection_layer_norm
    assert config.layers == uniform_layers(2, 12, 64, 3072)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_of_every_kind_of_teacher_has_its_norms_and_front_end(kind):
    teacher_config = KINDS[kind][1]
    config = derive_config(ARCHITECTURE, teacher_config, [2, 4])
    is_layer = kind.endswith("-large") or kind == "data2vec"
    assert config.feature_norm == ("layer" if is_layer else "group")
    assert config.normalize_waveforms == is_layer
    assert config.norm_placement == ("pre" if kind.endswith("-large") else "post")
    assert config.conv_bias == kind.endswith("-large")
    assert config.hidden_size == 32
    assert config.layers == uniform_layers(2, 4, 8, 64)
    output = StudentForDistillation(config).eval()(torch.randn(2, 4000))
    assert {layer: prediction.shape for layer, prediction in output.predictions.items()} == {
        2: (2, 12, 32),
        4: (2, 12, 32),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_copied_weights_are_the_teachers_and_the_others_stay_fresh(kind):
    student, fresh, teacher, copied, left = started(kind)
    weights = student.state_dict()
    assert set(copied) <= set(weights)
    for name, tensor in weights.items():
        if name in copied:
            assert torch.equal(tensor, teacher[theirs(name)]), name
            if tensor.std() > 0:
                assert not torch.equal(tensor, fresh[name]), name
        else:
            assert torch.equal(tensor, fresh[name]), name
    stays = {name for name in weights if name.startswith("encoder.layer_norm.")}
    if kind == "data2vec":  # its five positional convolutions have no place in the student's one
        stays |= {name for name in weights if name.startswith("encoder.pos_conv_embed.")}
        assert any(name.startswith("encoder.pos_conv_embed.layers.4.") for name in left)
    assert stays
    assert set(weights) - set(copied) == stays


def test_the_norm_behind_the_positional_convolution_starts_fresh():
    student = started("hubert")[0]
    assert torch.equal(student.encoder.layer_norm.weight, torch.ones(32))
    assert torch.equal(student.encoder.layer_norm.bias, torch.zeros(32))


def test_the_lowest_layers_are_copied_and_the_higher_ones_named_as_left():
    student, _, teacher, copied, left = started("hubert")
    for layer in (0, 1):
        name = f"encoder.layers.{layer}.attention.k_proj.weight"
        assert torch.equal(student.state_dict()[name], teacher[name])
    assert {name.split(".")[2] for name in left} == {"2", "3"}
    assert "masked_spec_embed" not in [*copied, *left]


def test_wavlms_position_bias_has_no_place():
    left = started("wavlm")[4]
    assert "encoder.layers.0.attention.rel_attn_embed.weight" in left


def test_a_whole_copy_makes_the_student_the_teacher():
    parts = [*COPIED, "projection_layer_norm", "encoder_layer_norm"]
    student = started("hubert", parts, num_hidden_layers=4, projection_layer_norm=True)[0].eval()
    waveforms = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = make("hubert")(waveforms).last_hidden_state
        torch.testing.assert_close(student(waveforms).last_hidden_state, expected, atol=1e-4, rtol=1e-4)


def test_only_the_parts_asked_for_are_copied():
    copied = started("hubert", ["feature_encoder"])[3]
    assert copied
    assert all(name.startswith("feature_encoder.") for name in copied)
    assert started("hubert", [])[3] == []


def test_a_thinner_student_cannot_start_from_its_teacher():
    with pytest.raises(
        UserError, match=r"feature_projection\.projection\.weight is \(16, 16\).*\(32, 16\) there"
    ) as caught:
        started("hubert", hidden_size=16)
    assert "student.init_from=null" in str(caught.value)
    with pytest.raises(UserError, match=r"intermediate_dense"):
        started("hubert", intermediate_size=16)


def test_an_unknown_part_is_named():
    with pytest.raises(UserError, match=r"architecture\.copied_parts has \['heads'\]: known are feature_encoder"):
        started("hubert", ["heads"])


def test_own_sizes_beat_the_teachers():
    config = derive_config(
        {**ARCHITECTURE, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40},
        KINDS["hubert"][1],
        [4],
    )
    assert config.hidden_size == 24
    assert config.layers == uniform_layers(2, 3, 8, 40)
    assert config.heads == {"kind": "joint", "tap": "hidden", "teacher_layers": [4], "teacher_hidden_size": 32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, r"architecture\.hidden_size=30 is not a multiple.*num_attention_heads=4"),
        ({"num_hidden_layers": 0}, r"architecture\.num_hidden_layers=0: give a whole number from 1 up"),
        ({"num_hidden_layers": "two"}, r"architecture\.num_hidden_layers=two: give"),
        ({"hidden_size": "a"}, r"architecture\.hidden_size=a: give"),
        ({"intermediate_size": 0}, r"architecture\.intermediate_size=0: give"),
        ({"num_attention_heads": 2.5}, r"architecture\.num_attention_heads=2\.5: give"),
        ({"conv_layers": [[1, 10.5, 5]]}, r"architecture\.conv_layers="),
        ({"hidden_dropout": 1.5}, r"architecture\.hidden_dropout=1\.5: give a probability"),
        ({"hidden_size": 20, "num_attention_heads": 2}, None),
    ],
)
def test_sizes_that_cannot_be_built_are_one_message(changes, message):
    architecture = {**ARCHITECTURE, **changes}
    if message is None:  # 4 groups of the positional convolution divide 20
        assert derive_config(architecture, KINDS["hubert"][1], [4]).hidden_size == 20
        return
    with pytest.raises(UserError, match=message):
        derive_config(architecture, KINDS["hubert"][1], [4])
