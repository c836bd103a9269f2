"""Which layer of the student is compared with which layer of the teacher.

Layer 0 is the input of the first Transformer layer, layer i the output of Transformer layer i.
"""

from collections.abc import Callable
from typing import NamedTuple

from speechdistill.errors import UserError


class LayerMatch(NamedTuple):
    """One comparison: a head on a student layer predicts a teacher layer."""

    student_layer: int
    teacher_layer: int


def last_to_many(student_layers: int, teacher_layers: int, count: int = 3) -> list[LayerMatch]:
    """The last student layer predicts `count` layers spread evenly up to the teacher's top.

    DistilHuBERT (Chang et al., ICASSP 2022, arXiv:2110.01900): 4, 8 and 12 of HuBERT Base's twelve.

    Raises:
        UserError: the teacher has fewer layers than `count`.
    """
    if not 1 <= count <= teacher_layers:
        raise UserError(
            f"objective.map.count={count}: the teacher has {teacher_layers} layers, so 1 to {teacher_layers}."
        )
    return [LayerMatch(student_layers, round(teacher_layers * part / count)) for part in range(1, count + 1)]


def one_to_one(student_layers: int, teacher_layers: int) -> list[LayerMatch]:
    """Each student layer predicts the teacher's layer at the same share of the depth.

    FitHuBERT (Lee et al., Interspeech 2022, arXiv:2207.00555) matches 12 with 12, layer by layer. Where one of the two
    has fewer layers, all of its layers are matched with as many of the other's, spread evenly up to the top.
    """
    count = min(student_layers, teacher_layers)

    def spread(layers: int) -> list[int]:
        return [round(layers * part / count) for part in range(1, count + 1)]

    return [LayerMatch(*pair) for pair in zip(spread(student_layers), spread(teacher_layers), strict=True)]


LAYER_MAPS: dict[str, Callable[..., list[LayerMatch]]] = {"last_to_many": last_to_many, "one_to_one": one_to_one}
