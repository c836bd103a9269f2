"""torch.hub.load(THIS_REPOSITORY, "speechdistill", ckpt=STUDENT_FOLDER) makes the upstream of a student."""

from typing import Any

dependencies = ["torch", "torchaudio", "transformers", "soundfile", "soxr"]


def speechdistill(ckpt: str, **options: Any) -> Any:
    """Load a student or a teacher; arguments as of speechdistill.upstream.UpstreamExpert."""
    from speechdistill.upstream import UpstreamExpert

    return UpstreamExpert(ckpt, **options)
