"""Files that transcribe writes beside each other."""

import pytest

from speechdistill import transcribe


@pytest.mark.parametrize(("length", "fits"), [(251, True), (252, False)])
def test_a_name_that_leaves_no_room_is_named(length, fits, tmp_path, capsys):
    file = "a" * length + ".x"
    assert transcribe._write(str(tmp_path), file, "text", ".srt") == fits
    assert [path.read_text() for path in tmp_path.iterdir()] == ["text"] * fits
    assert ("its name is too long for a file" in capsys.readouterr().err) == (not fits)
