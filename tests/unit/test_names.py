"""The package's names: at hand after `import speechdistill`, and for the user's own code that a command imports."""

import subprocess
import sys

import speechdistill


def test_a_command_has_every_name_too() -> None:
    code = (
        "import sys; sys.argv = ['speechdistill']; import speechdistill; assert 'torch' not in sys.modules; "
        f"found = [getattr(speechdistill, name) for name in {speechdistill.__all__!r}]; "
        "assert 'Compression' in str(found) and not hasattr(speechdistill, 'other')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
