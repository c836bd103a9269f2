"""lhotse's cuts and recordings."""

from typing import Any

from speechdistill.audio.lengths import samples_at_16k
from speechdistill.audio.lists.entry import Row
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ


def row(content: dict[str, Any], where: str) -> Row:
    """A recording or a cut of lhotse's, from a file on disk and with nothing done to it.

    Raises:
        UserError: it is none, or needs more than a part of a file.
    """
    # Takes seconds to load, and only those who have such lists need it.
    from lhotse import MonoCut, Recording
    from lhotse.serialization import deserialize_item

    try:
        item = deserialize_item(content)
    except Exception as error:  # whatever a line that is none of lhotse's makes it raise
        raise UserError(f"{where} is no cut and no recording of lhotse's ({type(error).__name__}: {error}).") from error
    if not isinstance(item, MonoCut | Recording):
        raise UserError(f"{where}: a {type(item).__name__}; cuts of one channel (MonoCut) and recordings can be used.")
    recording = item.recording if isinstance(item, MonoCut) else item
    if recording is None or len(recording.sources) != 1 or recording.sources[0].type != "file":
        raise UserError(f"{where}: its audio is not in one file on disk.")
    if recording.transforms or (isinstance(item, MonoCut) and recording.num_channels != 1):
        raise UserError(f"{where}: transformed audio and single channels of several cannot be used; save them first.")
    named = {"path": str(recording.sources[0].source), "id": item.id}
    num_samples = samples_at_16k(recording.num_samples, recording.sampling_rate)
    if isinstance(item, Recording):
        return Row(where, named, num_samples)
    if item.start > 0 or item.duration < recording.duration:
        named |= {"start": item.start, "duration": item.duration}
        num_samples = round(item.duration * SAMPLE_RATE_HZ)
    texts = [supervision.text for supervision in item.supervisions if supervision.text]
    speakers = [supervision.speaker for supervision in item.supervisions if supervision.speaker]
    named |= {"text": " ".join(texts) or None, "speaker": speakers[0] if speakers else None}
    return Row(where, {**named, "split": (item.custom or {}).get("split")}, num_samples)
