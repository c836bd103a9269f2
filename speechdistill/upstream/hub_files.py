"""What a student's folder needs to be loaded by torch.hub and by s3prl's `--hub huggingface`."""

from pathlib import Path

import torch

from speechdistill.checkpoints.student_dir import load_student
from speechdistill.errors import UserError
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.provenance import shared_config
from speechdistill.whole_file import whole_file

MODEL = "model.pt"

_HUBCONF = f'''"""torch.hub.load(FOLDER, "speechdistill", source="local"): the upstream of this folder's student."""

from pathlib import Path

dependencies = ["torch", "speechdistill"]


def speechdistill(ckpt=None, **options):
    """Load {MODEL} beside this file, or `ckpt`; options as of speechdistill.upstream.UpstreamExpert."""
    from speechdistill.upstream import UpstreamExpert

    return UpstreamExpert(ckpt or str(Path(__file__).with_name("{MODEL}")), **options)
'''
_EXPERT = '''"""What s3prl imports for `--hub huggingface`."""

from speechdistill.upstream import UpstreamExpert

__all__ = ["UpstreamExpert"]
'''
_REQUIREMENTS = "speechdistill[superb]\n"


def write_hub_files(student: str | Path, out: str | Path | None = None) -> list[Path]:
    """Write hubconf.py, expert.py, requirements.txt and model.pt.

    model.pt holds {"config": the student's config.json, "weights": its tensors, prediction heads included}; it loads
    with `weights_only=True`.

    Args:
        student: a student's folder, or its run's.
        out: where to; None = into the student's folder.

    Returns:
        The files.

    Raises:
        UserError: no student there, or the folder cannot be written.
    """
    bare = load_student(student)
    model: StudentModel | StudentForDistillation = (
        bare if bare.config.heads is None else load_student(student, heads=True)
    )
    folder = Path(student if out is None else out).expanduser()
    if out is None and not (folder / "config.json").is_file():
        folder = folder / "student"
    texts = {"hubconf.py": _HUBCONF, "expert.py": _EXPERT, "requirements.txt": _REQUIREMENTS}
    try:
        folder.mkdir(exist_ok=True)
        with whole_file(folder / MODEL, "wb") as file:
            torch.save({"config": shared_config(model.config), "weights": model.state_dict()}, file)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error}") from error
    return [folder / name for name in (MODEL, *texts)]
