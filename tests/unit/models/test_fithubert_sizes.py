"""FitHuBERT's shape from its teacher: the paper's numbers for HuBERT Base, its ratios for others."""

from pathlib import Path

import pytest
import torch
import transformers
import yaml

from speechdistill.errors import UserError
from speechdistill.models.config import uniform_layers
from speechdistill.models.derive import copy_from_teacher, derive_config, student_depth
from speechdistill.models.student import StudentForDistillation
from speechdistill.teachers.load import load_teacher
from tests.unit.teachers.tiny_teachers import KINDS, make

ARCHITECTURE = yaml.safe_load((Path(__file__).parents[3] / "configs/architecture/fithubert.yaml").read_text())
# The released model has an upsampler of its own beside those of its heads, which nothing uses: 480 x 480 x 2 + 480.
INERT_UPSAMPLER = 461_280


def derived(teacher_config, layers=None, **changes):
    layers = layers or range(1, teacher_config.num_hidden_layers + 1)
    return derive_config({**ARCHITECTURE, **changes}, teacher_config, list(layers), {"name": "x"}, list(layers))


def size_of(config) -> tuple[int, int]:
    with torch.device("meta"):
        whole = StudentForDistillation(config)
    return tuple(sum(parameter.numel() for parameter in model.parameters()) for model in (whole.student, whole))


@pytest.mark.parametrize("base", [transformers.HubertConfig(), transformers.Wav2Vec2Config()])
def test_the_student_of_a_base_teacher_has_the_papers_parameters(base):
    student, with_twelve = size_of(derived(base))
    _, with_last = size_of(derived(base, [12]))
    assert student == 21_200_096
    assert with_last == 22_030_784
    assert with_twelve == 31_168_352
    # Published: 22.49 M for FitHuBERT (last head), 31.63 M for FitW2V2 (twelve heads), the same student.
    assert with_last + INERT_UPSAMPLER == 22_492_064
    assert with_twelve + INERT_UPSAMPLER == 31_629_632


def test_the_parts_of_the_count():
    with torch.device("meta"):
        whole = StudentForDistillation(derived(transformers.HubertConfig()))
    student = whole.student

    def size(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert size(student.feature_encoder) == 2_000_384
    assert size(student.feature_projection.projection) == 246_240
    assert size(student.feature_projection.layer_norm) == 1_024
    assert size(student.encoder) == 18_952_448
    assert [size(head) for head in whole.heads.layers] == [830_688] * 12
    assert size(whole.heads.layers[0].upsampler) == INERT_UPSAMPLER


def test_the_student_of_hubert_base_is_the_papers():
    config = derived(transformers.HubertConfig())
    assert config.conv_layers == [
        [128, 10, 5],
        [256, 1, 1],
        *[[256, 3, 2]] * 4,
        [512, 1, 1],
        *[[512, 2, 2]] * 2,
    ]
    assert config.layers == uniform_layers(12, 12, 40, 480)
    assert config.hidden_size == 480
    assert config.positional_convolution == {"kernel_size": 128, "groups": 16, "depth": 1}
    assert (config.feature_norm, config.norm_placement, config.conv_bias) == ("group", "post", False)
    assert (config.time_reduction_factor, config.time_reduction_layer) == (2, 1)
    assert (config.projection_layer_norm, config.feature_grad_mult, config.normalize_waveforms) == (True, 1.0, False)
    assert (config.feat_proj_dropout, config.hidden_dropout) == (0.05, 0.1)
    assert (config.attention_dropout, config.activation_dropout) == (0.1, 0.1)
    assert config.heads == {
        "kind": "layerwise",
        "tap": "hidden",
        "student_layers": list(range(1, 13)),
        "teacher_layers": list(range(1, 13)),
        "teacher_hidden_size": 768,
    }


def first_weights(**changes) -> dict[str, float]:
    """Standard deviations of what is fresh outside the Transformer layers."""
    torch.manual_seed(0)
    model = StudentForDistillation(derived(transformers.HubertConfig(num_hidden_layers=2), **changes))
    modules = {
        "reduction": model.student.encoder.time_reduction.conv,
        "upsampler": model.heads.layers[1].upsampler,
        "head": model.heads.layers[1].projection,
        "projection": model.student.feature_projection.projection,
        "layer": model.student.encoder.layers[1].feed_forward.output_dense,
    }
    return {
        f"{name} {part}": getattr(modules[name], part).std().item() for name in modules for part in ("weight", "bias")
    }


def test_first_weights_outside_the_layers_are_torchs_defaults_as_released():
    # 1 / sqrt(3 x fan-in): 480 x 2 of the reduction and, as torch counts it, of the upsampler; 480 of a head's
    # projection; 512 of the projection. The layers are as HuBERT's.
    weights = {"reduction": 0.0186, "upsampler": 0.0186, "head": 0.0263, "projection": 0.0255}
    found = first_weights()
    for name, std in weights.items():
        assert found[f"{name} weight"] == pytest.approx(std, rel=0.01), name
        assert found[f"{name} bias"] == pytest.approx(std, rel=0.15), name  # of 480 numbers
    assert found["layer weight"] == pytest.approx(0.02, rel=0.01)
    assert found["layer bias"] == 0


def test_first_weights_of_a_student_that_does_not_ask_for_torchs_are_huberts():
    found = first_weights(outer_initialization="normal")
    assert found["projection weight"] == pytest.approx(0.02, rel=0.01)
    assert found["head weight"] == pytest.approx(0.02, rel=0.01)
    assert found["projection bias"] == found["head bias"] == 0
    with pytest.raises(UserError, match=r"architecture\.outer_initialization=zeros: allowed are normal, torch"):
        derived(transformers.HubertConfig(), outer_initialization="zeros")


def test_group_norm_stands_behind_the_first_convolution_only():
    with torch.device("meta"):
        student = StudentForDistillation(derived(transformers.HubertConfig())).student
    norms = [layer.layer_norm for layer in student.feature_encoder.conv_layers]
    assert norms[1:] == [None] * 8
    assert isinstance(norms[0], torch.nn.GroupNorm)
    assert norms[0].num_groups == 128


def test_the_bundled_teachers_student_has_the_papers_ratios():
    config = derived(load_teacher("mini").config)
    assert config.layers == uniform_layers(6, 6, 20, 120)
    assert [channels for channels, _, _ in config.conv_layers] == [32, *[64] * 5, *[128] * 3]
    # 16 groups do not divide 120 channels.
    assert config.positional_convolution["groups"] == 8


def test_a_large_teachers_student_has_the_papers_ratios():
    large = transformers.HubertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    config = derived(large)
    assert config.layers == uniform_layers(24, 16, 40, 640)
    assert (config.feature_norm, config.norm_placement, config.normalize_waveforms) == ("layer", "pre", True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_of_every_kind_of_teacher_runs_and_all_of_it_learns(kind):
    config = derived(KINDS[kind][1])
    assert config.hidden_size == 20
    model = StudentForDistillation(config)
    waveforms = 0.2 * torch.randn(2, 4320)
    output = model(waveforms)
    assert {tuple(p.shape) for p in output.predictions.values()} == {(2, 12, 32)}
    sum(prediction.square().mean() for prediction in output.predictions.values()).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def test_a_student_of_the_teachers_sizes_may_start_from_it_and_a_thin_one_is_refused():
    parts, teacher = ARCHITECTURE["copied_parts"], make("hubert")
    same = {"hidden_share": 1.0, "intermediate_share": 1.0, "conv_layers": None}
    student = StudentForDistillation(derived(teacher.config, **same)).student
    copied, left = copy_from_teacher(student, teacher.state_dict(), parts)
    fresh = {name for name in student.state_dict() if name not in copied}
    assert fresh == {
        f"encoder.{part}.{name}" for part in ("layer_norm", "time_reduction.conv") for name in ("weight", "bias")
    }
    assert left == []
    with pytest.raises(UserError, match=r"cannot start from its teacher.*student\.init_from=null"):
        copy_from_teacher(StudentForDistillation(derived(teacher.config)).student, teacher.state_dict(), parts)


def test_own_sizes_beat_the_shares():
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "num_hidden_layers": 2}
    config = derived(KINDS["hubert"][1], [1, 2], **sizes, conv_layers=None)
    assert config.layers == uniform_layers(2, 3, 8, 40)
    assert config.conv_layers == [[16, kernel, stride] for _, kernel, stride in config.conv_layers]
    assert len(config.conv_layers) == 7
    # The width is rounded to a multiple of the heads: 0.625 x 32 = 20.
    assert derived(KINDS["hubert"][1], num_attention_heads=8).hidden_size == 16
    assert (student_depth({"num_hidden_layers": 2}, 12), student_depth({"num_hidden_layers": None}, 12)) == (2, 12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": "many"}, r"architecture\.heads=many: allowed are joint, layerwise"),
        ({"hidden_share": 0}, r"architecture\.hidden_share=0: give the share"),
        ({"intermediate_share": "half"}, r"architecture\.intermediate_share=half"),
        ({"conv_layers": [[0.25, 10]]}, r"architecture\.conv_layers=\[\[0\.25, 10\]\]: give \[share"),
        ({"time_reduction_layer": 9}, r"architecture: .*time_reduction_layer is 9.*1 to 4"),
        (
            {"time_reduction_factor": 1},
            r"architecture\.time_reduction_layer=1 with architecture\.time_reduction_factor=1: give null",
        ),
    ],
)
def test_sizes_that_cannot_be_built_are_one_message(changes, message):
    with pytest.raises(UserError, match=message):
        derived(KINDS["hubert"][1], **changes)
