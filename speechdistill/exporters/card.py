"""README.md of an exported student: the student's own model card, and how to load this form of it."""

import re
from pathlib import Path

from speechdistill.errors import UserError
from speechdistill.exporters.graph import Difference, as_lines
from speechdistill.models.student import StudentModel

_LIBRARIES = {"hf_hubert": "transformers", "onnx": "onnx", "int8": "onnx", "torch_export": "pytorch"}
_USES = {
    "hf_hubert": """from transformers import HubertModel

student = HubertModel.from_pretrained("PATH_OF_THIS_FOLDER")  # speechdistill is not needed
output = student(waveforms, output_hidden_states=True)  # waveforms: (batch, samples), float32 {range}, 16 kHz""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("{file}")
# waveforms: (batch, samples) float32 in [-1, 1], 16 kHz, zeros behind each end; num_samples: (batch,) int64, real ones
outputs = session.run(["last_hidden_state"], {{"waveforms": waveforms, "num_samples": num_samples}})""",
    "torch_export": """import torch

student = torch.export.load("{file}").module()
# waveforms: (batch, samples) float32 in [-1, 1], 16 kHz, zeros behind each end; num_samples: (batch,) int64, real ones
last_hidden_state, num_frames, *hidden_states = student(waveforms, num_samples)""",
}


def form_card(student: StudentModel, source: Path, form: str, file: str, found: list[Difference], note: str) -> str:
    """Write the card.

    Args:
        student: what was exported.
        source: its folder; its README.md is taken over where there is one.
        form: the format.
        file: the name of the main file.
        found: the comparison with the student; may be empty.
        note: what else is to be said of the file, or nothing.
    """
    own = source / "README.md"
    try:
        card = own.read_text(encoding="utf-8") if own.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{own} cannot be read: {error}") from error
    if not card.startswith("---\n"):
        card = f"---\nlibrary_name: speechdistill\npipeline_tag: feature-extraction\n---\n\n# Student\n\n{card}"
    card = re.sub(r"(?m)^library_name: .*$", f"library_name: {_LIBRARIES[form]}", card, count=1)
    waves = "of zero mean and unit variance" if student.config.normalize_waveforms else "in [-1, 1]"
    use = _USES["onnx" if form == "int8" else form].format(file=file, range=waves)
    parts = [card.rstrip(), f"## This form: {form}", f"```python\n{use}\n```"]
    if found:
        parts.append("\n".join(as_lines(found, "The student and this file")))
    return "\n\n".join([*parts, *([note] if note else [])]) + "\n"
