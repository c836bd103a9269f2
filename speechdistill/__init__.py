"""Distil large self-supervised speech encoders into small ones that load anywhere.

`import speechdistill` is enough for `transformers.AutoModel.from_pretrained(STUDENT_FOLDER)` to work.
"""

import os

__version__ = "0.1.0"

# The demo corpus's synthesiser needs no torch, and forks, which a process that has loaded torch should not.
if "SPEECHDISTILL_SYNTHESISER" not in os.environ:
    from speechdistill.checkpoints.student_dir import load_student, load_supernet
    from speechdistill.errors import UserError
    from speechdistill.models.config import StudentConfig
    from speechdistill.models.ctc import CTCConfig, StudentForCTC
    from speechdistill.models.search_space import SearchSpace, Subnet
    from speechdistill.models.student import StudentModel
    from speechdistill.models.supernet import Supernet
    from speechdistill.teachers.load import Teacher, load_teacher

    __all__ = [
        "CTCConfig",
        "SearchSpace",
        "StudentConfig",
        "StudentForCTC",
        "StudentModel",
        "Subnet",
        "Supernet",
        "Teacher",
        "UserError",
        "load_student",
        "load_supernet",
        "load_teacher",
    ]
