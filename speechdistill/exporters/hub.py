"""Push a folder to the Hugging Face Hub (or the server that HF_ENDPOINT names)."""

import re
from collections.abc import Sequence
from pathlib import Path

from speechdistill.errors import UserError

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_name(name: str) -> None:
    """Refuse what is no user/name.

    Raises:
        UserError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"push={name}: give USER/NAME, the model repository to push to.")


def push(files: Sequence[Path], folder: Path, name: str) -> str:
    """Upload files as one commit into a model repository, which is made if there is none.

    Args:
        files: in the folder.
        folder: whose layout the repository gets.
        name: user/name.

    Returns:
        The address of the commit.

    Raises:
        UserError: no token, no network, no right, or the Hub's own words of refusal.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise UserError(f"push={name}: no token; say `hf auth login`, or set HF_TOKEN. The files are in {folder}.")
    api = HfApi()
    operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
    try:
        api.create_repo(name, exist_ok=True)
        return str(api.create_commit(name, operations, commit_message="A student of speechdistill").commit_url)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(f"push={name}: {str(error).strip().splitlines()[0]}. The files are in {folder}.") from error
