"""The trainings by the name that a recipe gives in `method`."""

from collections.abc import Callable
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.training.once_for_all_job import once_for_all
from speechdistill.training.runs import Job, distillation, masked_units

METHODS: dict[str, Callable[[dict[str, Any], SpeechData], Job]] = {
    "distillation": distillation,
    "masked_units": masked_units,
    "once_for_all": once_for_all,
}
