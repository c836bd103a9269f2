"""Published sizes out of files of the published shapes, on the meta device: parameters by model and by formula."""

import pytest
import torch
import transformers

from speechdistill.checkpoints.official import dphubert, encoders, lighthubert, thin
from speechdistill.checkpoints.official.recognise import find_kind
from speechdistill.evaluation import cost
from speechdistill.models.config import StudentConfig
from speechdistill.models.cost_formula import macs_per_second, num_params
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.teachers.load import Teacher, TeacherSource
from tests.published import THIN, Pruned, Shapes, affine, drawn, lightning, tiny_pruned, tiny_thin


def counts(config: StudentConfig) -> tuple[int, int]:
    """Of the bare student and of the student with its heads."""
    with torch.device("meta"):
        bare = StudentModel(config)
        whole = StudentForDistillation(config) if config.heads else bare
    return cost.num_params(bare), cost.num_params(whole)


def with_reduction(config: StudentConfig) -> int:
    """The formula knows no time reduction: what it costs is a convolution."""
    factor = config.time_reduction_factor
    plain = StudentConfig.from_dict(
        {**config.to_dict(), "time_reduction_factor": 1, "time_reduction_layer": None, "heads": None}
    )
    return num_params(plain) + (factor > 1) * (factor * config.hidden_size**2 + config.hidden_size)


@pytest.mark.parametrize(
    ("name", "kind", "bare", "whole"),
    [
        ("FitHuBERT", "FitHuBERT or FitW2V2", 21_200_096, 31_629_632 - 461_280),
        ("ARMHuBERT", "ARMHuBERT or ARMwavLM", 22_015_552, 26_448_448),
        ("ARMHuBERT-S", "ARMHuBERT or ARMwavLM", 18_403_552, 22_394_080),
        ("MaskHuBERT", "MaskHuBERT", 22_202_944, 26_635_840),
        ("STaRHuBERT", "STaRHuBERT or STaRWavLM", 22_308_592, 22_308_592),
    ],
)
def test_thin_students(name, kind, bare, whole):
    content = lightning(drawn(THIN[name](), "meta"))
    found = find_kind(content)
    assert found is not None
    assert found.name == kind
    conversion = thin.read(content, {})
    assert counts(conversion.config) == (bare, whole)
    assert with_reduction(conversion.config) == bare
    expected_heads = 8 if name == "STaRHuBERT" else 12
    assert {layer["num_attention_heads"] for layer in conversion.config.layers} == {expected_heads}


def test_the_unused_upsampler_is_what_fithuberts_published_count_has_more():
    conversion = thin.read(lightning(drawn(THIN["FitHuBERT"](), "meta")), {})
    left = {key: shape for key, shape in THIN["FitHuBERT"]().items() if key in conversion.left_out}
    assert sum(torch.Size(shape).numel() for shape in left.values()) == 461_280


def lighthubert_shapes(norm: str) -> Shapes:
    shapes: Shapes = {"mask_emb": (768,), "layer_pred_heads.11.weight": (768, 768)}
    inputs = 1
    for index, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        shapes[f"feature_extractor.conv_layers.{index}.0.weight"] = (512, inputs, kernel)
        if norm == "layer":
            shapes |= affine(f"feature_extractor.conv_layers.{index}.2.1", 512)
        inputs = 512
    shapes |= affine("feature_extractor.conv_layers.0.2", 512) if norm == "group" else {}
    shapes |= affine("layer_norm", 512) | affine("post_extract_proj", 768, 512) | affine("encoder.layer_norm", 768)
    shapes |= {
        "encoder.pos_conv.0.bias": (768,),
        "encoder.pos_conv.0.weight_g": (1, 1, 128),
        "encoder.pos_conv.0.weight_v": (768, 48, 128),
    }
    for index in range(12):
        name = f"encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= affine(f"{name}.self_attn.{part}", 768, 768)
        shapes |= affine(f"{name}.self_attn_layer_norm", 768) | affine(f"{name}.final_layer_norm", 768)
        shapes |= affine(f"{name}.fc1", 3072, 768) | affine(f"{name}.fc2", 768, 3072)
    return shapes


@pytest.mark.parametrize(("norm", "stored"), [("layer", 94_967_680), ("group", 94_961_536)])
@pytest.mark.parametrize("space", ["base", "small"])
def test_lighthuberts_supernets(norm, stored, space):
    model = drawn(lighthubert_shapes(norm), "meta")
    content = {"cfg": {"model": {"_name": "hubert_pruner", "pruner_supernet": f"/x/{space}.yaml"}}, "model": model}
    conversion = lighthubert.read(content, {})
    assert counts(conversion.config)[1] == stored
    assert conversion.space is not None
    assert conversion.space.count() == {"base": 6_530_347_008, "small": 951_892_141_473}[space]
    assert conversion.config.feature_norm == norm


@pytest.mark.parametrize(("wavlm", "teacher"), [(False, 94_371_456), (True, 94_381_680)])
def test_an_unpruned_dphubert_counts_as_its_teacher(wavlm, teacher):
    whole = Pruned([list(range(12))] * 12, [3072] * 12, [512] * 7, wavlm=wavlm)
    config = dphubert.read(whole.checkpoint(drawn(whole.shapes(), "meta")), {}).config
    assert counts(config)[0] == num_params(config) == teacher


@pytest.mark.parametrize("wavlm", [False, True])
def test_a_pruned_one_counts_what_its_file_holds(wavlm):
    # Sizes like the published ones, which are in their files alone.
    generator = torch.Generator().manual_seed(3)
    heads = [sorted(torch.randperm(12, generator=generator)[: 1 + layer % 9].tolist()) for layer in range(12)]
    units = torch.randint(1, 1400, (12,), generator=generator).tolist()
    channels = torch.randint(80, 500, (7,), generator=generator).tolist()
    pruned = Pruned(heads, units, channels, wavlm=wavlm)
    config = dphubert.read(pruned.checkpoint(drawn(pruned.shapes(), "meta")), {}).config
    held = sum(torch.Size(shape).numel() for shape in pruned.shapes().values())
    assert counts(config)[0] == num_params(config) == held


@pytest.mark.parametrize(
    ("model", "config", "size"),
    [
        (transformers.HubertModel, transformers.HubertConfig(), 94_371_712),
        (transformers.WavLMModel, transformers.WavLMConfig(), 94_381_936),
        (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(), 94_371_712),
        (
            transformers.WavLMModel,
            transformers.WavLMConfig(
                hidden_size=1024,
                num_hidden_layers=24,
                num_attention_heads=16,
                intermediate_size=4096,
                feat_extract_norm="layer",
                do_stable_layer_norm=True,
            ),
            315_453_120,
        ),
        (
            transformers.HubertModel,
            transformers.HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False),
            23_491_968,  # the 23,491,200 of DistilHuBERT and a mask embedding
        ),
    ],
)
def test_encoders_as_students_of_their_size(model, config, size):
    with torch.device("meta"):
        teacher = Teacher(model(config), TeacherSource("x", None, ""))
    student = encoders.read(teacher).config
    assert counts(student)[0] == num_params(student) == size


def configs() -> dict[str, StudentConfig]:
    """Tiny students of every kind of attention; the formula knows no time reduction."""
    options = {"encoder_attention_heads": 4}
    found = {name: thin.read(tiny_thin(name), options).config for name in ("ARMHuBERT", "STaRHuBERT")}
    return found | {
        name: dphubert.read(tiny_pruned(wavlm).checkpoint(), {}).config
        for name, wavlm in {"DPHuBERT": False, "DPWavLM": True}.items()
    }


@pytest.mark.parametrize("name", ["ARMHuBERT", "STaRHuBERT", "DPHuBERT", "DPWavLM"])
def test_multiply_accumulates_by_formula_are_the_counted_ones(name):
    config = configs()[name]
    model = StudentModel(config).eval()
    assert cost.num_params(model) == num_params(config)
    assert cost.macs_per_second(model, seconds=2) == macs_per_second(config, seconds=2)
