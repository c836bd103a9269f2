"""README.md of an exported student: the student's own model card, and how to use this form of it."""

import re
from collections.abc import Sequence
from pathlib import Path

from speechdistill.checkpoints.card import HEADING, PLACE, Outputs, outputs_of_student, use
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig

_LIBRARIES = {"hf_hubert": "transformers", "onnx": "onnx", "int8": "onnx", "torch_export": "pytorch"}
_USES = {
    "hf_hubert": f"""import numpy
from transformers import AutoFeatureExtractor, HubertModel

prepare = AutoFeatureExtractor.from_pretrained("{PLACE}")
student = HubertModel.from_pretrained("{PLACE}")
recordings = [numpy.zeros(16000, numpy.float32)]  # (samples,) each, float32 in [-1, 1], 16 kHz, of any lengths
batch = prepare(recordings, sampling_rate=16000, padding=True, return_tensors="pt")
output = student(**batch, output_hidden_states=True)
num_frames = student._get_feat_extract_output_lengths(batch["attention_mask"].sum(-1))""",
    "onnx": f"""import numpy
import onnxruntime

session = onnxruntime.InferenceSession("{PLACE}/FILE")
waveforms = numpy.zeros((1, 16000), numpy.float32)  # (batch, samples) in [-1, 1], 16 kHz, zeros after a row's end
num_samples = numpy.array([16000], numpy.int64)  # (batch,) real samples of each row
names = [output.name for output in session.get_outputs()]
outputs = dict(zip(names, session.run(names, {{"waveforms": waveforms, "num_samples": num_samples}})))""",
    "torch_export": f"""import torch

student = torch.export.load("{PLACE}/FILE").module()
waveforms = torch.zeros(1, 16000)  # (batch, samples), float32 in [-1, 1], 16 kHz, zeros after each row's end
num_samples = torch.tensor([16000])  # (batch,) int64, real samples of each row
last_hidden_state, num_frames, *hidden_states = student(waveforms, num_samples)""",
    "s3prl": f"""import torch

upstream = torch.hub.load("{PLACE}", "speechdistill", source="local").eval()
recordings = [torch.zeros(16000)]  # (samples,) each, float32 in [-1, 1], 16 kHz, of any lengths
output = upstream(recordings)""",
}
_NEEDS = {
    "hf_hubert": "transformers alone",
    "onnx": "ONNX Runtime alone",
    "int8": "ONNX Runtime alone",
    "torch_export": "torch alone",
    "s3prl": "speechdistill; s3prl itself takes the folder by `--hub huggingface`",
}


def form_card(source: Path, folder: Path, form: str, file: str, outputs: Outputs, lines: Sequence[str] = ()) -> str:
    """Write the card.

    Args:
        source: the student's folder; its README.md is taken over where there is one, but for how to use that folder.
        folder: of the exported files. Where it is `source` itself, how to use it as a student stays.
        form: the format.
        file: the name of the main file.
        outputs: what it gives.
        lines: paragraphs on how it compares with the student.
    """
    own = source / "README.md"
    try:
        card = own.read_text(encoding="utf-8") if own.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{own} cannot be read: {error}") from error
    if not card.startswith("---\n"):
        card = f"---\nlibrary_name: speechdistill\npipeline_tag: feature-extraction\n---\n\n# Student\n\n{card}"
    if folder.resolve() != source.resolve():
        card = _without_use(card)
    card = re.sub(r"(?m)^library_name: .*$", f"library_name: {_LIBRARIES.get(form, 'speechdistill')}", card, count=1)
    heading = f"{HEADING} as {form}"
    code = _USES["onnx" if form == "int8" else form].replace("FILE", file)
    section = use(code, outputs, f"It needs {_NEEDS[form]}.", *lines).replace(HEADING, heading, 1)
    return f"{_without_section(card, heading).rstrip()}\n\n{section}\n"


def outputs_of_graph(config: StudentConfig, names: Sequence[str]) -> Outputs:
    """Outputs of an ONNX file or an exported program, in their order."""
    meanings = {"last_hidden_state": "50 frames a second", "num_frames": "real frames of each row"}
    layer_0 = "the input of the first Transformer layer"
    return [
        (
            name,
            "(batch,) int64" if name == "num_frames" else f"(batch, frames, {config.hidden_size}) float32",
            meanings.get(name)
            or (layer_0 if name.endswith("_0") else f"the output of layer {name.rpartition('_')[2]}"),
        )
        for name in names
    ]


def outputs_of_hubert(config: StudentConfig) -> Outputs:
    """Outputs of a HubertModel."""
    eager = '`output_attentions=True`, and `attn_implementation="eager"` for `from_pretrained`'
    return [
        (name, shape, meaning.replace("`output_attentions=True`", eager))
        for name, shape, meaning in outputs_of_student(config)
        if name != "num_frames"
    ] + [("num_frames", "(batch,)", "real frames of each row, as the last line counts them")]


def outputs_of_upstream(config: StudentConfig) -> Outputs:
    """Outputs of an upstream with its default options."""
    size = f"(batch, frames, {config.hidden_size})"
    return [
        ("hidden_states", f"a list of {config.num_hidden_layers + 1} of {size}", "0 = the input of the first layer"),
        ("last_hidden_state", size, "ceil(samples / 320) frames of the longest recording"),
    ]


def _without_use(card: str) -> str:
    """A card without what works in the student's own folder alone, in cards of former versions as well."""
    while (rest := re.search(rf"(?m)^{HEADING}( as \w+)?$", card)) is not None:
        card = _without_section(card, rest[0])
    card = re.sub(r"(?ms)^```python\n(?:(?!^```).)*\bspeechdistill\b.*?^```\n", "", card)
    return "\n\n".join(part for part in card.split("\n\n") if "import speechdistill" not in part and PLACE not in part)


def _without_section(card: str, heading: str) -> str:
    """A card without the section of that heading, up to the next one of its level."""
    return re.sub(rf"(?ms)^{re.escape(heading)}$.*?(?=^## |\Z)", "", card)
