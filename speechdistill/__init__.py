"""Distil large self-supervised speech encoders into small ones that load anywhere.

`import speechdistill` is enough for `transformers.AutoModel.from_pretrained(STUDENT_FOLDER)` to work.
"""

from speechdistill.checkpoints.student_dir import load_student
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentModel
from speechdistill.teachers.load import Teacher, load_teacher

__version__ = "0.1.0"
__all__ = ["StudentConfig", "StudentModel", "Teacher", "UserError", "load_student", "load_teacher"]
