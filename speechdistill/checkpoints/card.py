"""README.md of a model's folder: lines of Python that work on that folder, and everything that they give."""

from collections.abc import Sequence

from speechdistill.models.config import StudentConfig
from speechdistill.provenance import repository_address

# Stands for the folder, which can be anywhere; or for the name of a repository on the Hugging Face Hub.
PLACE = "PATH_OF_THIS_FOLDER"
HEADING = "## Use"
_WAVEFORMS = "(batch, samples), float32 in [-1, 1], 16 kHz; or a list of recordings (samples,)"

Outputs = Sequence[tuple[str, str, str]]


def package() -> str:
    """The package's name, with a link where git knows the address of its repository."""
    address = repository_address()
    return f"[speechdistill]({address})" if address else "speechdistill"


def use(code: str, outputs: Outputs, *notes: str) -> str:
    """Write the section of a card that shows how to use what lies in its folder.

    Args:
        code: lines of Python that work wherever they run, once `PLACE` is replaced by the folder.
        outputs: name, shape and meaning of each.
        notes: paragraphs.
    """
    rows = "\n".join(f"| `{name}` | {shape} | {meaning} |" for name, shape, meaning in outputs)
    table = f"| output | shape | |\n| --- | --- | --- |\n{rows}"
    return "\n\n".join([HEADING, f"```python\n{code}\n```", table, *notes])


def use_of_student(config: StudentConfig) -> str:
    """The section for a student's own folder."""
    code = f"""import torch

import speechdistill

student = speechdistill.load_student("{PLACE}")
waveforms = torch.zeros(1, 16000)  # {_WAVEFORMS}
output = student(waveforms, output_hidden_states=True)"""
    return use(
        code,
        outputs_of_student(config),
        f"`transformers.AutoModel.from_pretrained` loads it as well, after `import speechdistill`. {_loudness(config)}",
    )


def outputs_of_student(
    config: StudentConfig, width: int | str | None = None, layers: int | str | None = None
) -> Outputs:
    """What the forward gives, by name.

    Args:
        config: of the student.
        width: of its hidden states, where they are not those of `config`.
        layers: how many it has, where they are not those of `config`.
    """
    width = width or config.hidden_size
    layers = layers or config.num_hidden_layers
    states = layers + 1 if isinstance(layers, int) else f"{layers} + 1"
    size = "reduced frames" if config.time_reduction_factor > 1 else "frames"
    return (
        ("last_hidden_state", f"(batch, frames, {width})", "50 frames a second"),
        (
            "hidden_states",
            f"{states} of (batch, frames, {width})",
            "with `output_hidden_states=True`; 0 = the input of the first Transformer layer, i = the output of layer i",
        ),
        ("attentions", f"{layers} of (batch, heads, {size}, {size})", "with `output_attentions=True`"),
        ("num_frames", "(batch,)", "real frames of each row"),
    )


def use_of_supernet(config: StudentConfig) -> str:
    """The section for a supernet's folder."""
    code = f"""import torch

import speechdistill

student = speechdistill.load_student("{PLACE}", subnet="published")  # or "smallest", "largest"
waveforms = torch.zeros(1, 16000)  # {_WAVEFORMS}
output = student(waveforms, output_hidden_states=True)

supernet = speechdistill.load_supernet("{PLACE}")
print(supernet.space)  # the choices; Subnet.uniform(hidden_size, num_attention_heads, ffn_ratio, depth) makes one
student = supernet.extract(supernet.space.smallest())"""
    return use(code, outputs_of_student(config, "width", "layers"), _loudness(config))


def _loudness(config: StudentConfig) -> str:
    treated = "normalised inside" if config.normalize_waveforms else "taken as they are"
    return f"Waveforms are {treated}; do not normalise them yourself."
