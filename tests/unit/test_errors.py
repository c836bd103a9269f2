"""What libraries say, in one line."""

import pytest

from speechdistill.errors import reason


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too wide.\nA long explanation."), "too wide"),
        (ValueError("field 'x':\n    expected int"), "field 'x': expected int"),
        (ValueError(), "ValueError"),
        (KeyError("heads"), "KeyError: 'heads'"),
        (IndexError("out of range"), "IndexError: out of range"),
        (ZeroDivisionError("modulo by zero"), "ZeroDivisionError: modulo by zero"),
    ],
)
def test_an_error_of_a_library_is_one_line(error: Exception, line: str) -> None:
    assert reason(error) == line
