"""The trainings by the name that a recipe gives in `method`."""

from collections.abc import Callable
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.table import Table
from speechdistill.training.asr_job import asr, asr_table
from speechdistill.training.distillation_job import distillation
from speechdistill.training.job import Job
from speechdistill.training.masked_units_job import masked_units

METHODS: dict[str, Callable[[dict[str, Any], SpeechData], Job]] = {
    "asr": asr,
    "distillation": distillation,
    "masked_units": masked_units,
}

# What of a corpus a training can use, where that is not all of it.
TABLES: dict[str, Callable[[dict[str, Any], Table], Table]] = {"asr": asr_table}
