"""Names of huggingface_hub that s3prl 0.4.18 imports and version 1 dropped."""

import os
from pathlib import Path
from typing import Any

import huggingface_hub

from speechdistill.errors import UserError

_stock_snapshot_download = huggingface_hub.snapshot_download


class HfFolder:
    """Where the access token is kept."""

    @staticmethod
    def get_token() -> str | None:
        """Return the token of this machine, or None."""
        return huggingface_hub.get_token()

    @staticmethod
    def save_token(token: str | None) -> None:
        """Keep a token; one that is kept already, or none, changes nothing."""
        if token and token != huggingface_hub.get_token():
            huggingface_hub.login(token=token)


class Repository:
    """A clone of a hub repository; s3prl only makes one for --push_to_hf_hub.

    Raises:
        UserError: always; huggingface_hub has no such thing any more.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise UserError(
            "--push_to_hf_hub needs huggingface_hub.Repository, which is gone: push the experiment's folder with "
            "`hf upload REPOSITORY FOLDER`."
        )


def login(self: Any = None, username: str | None = None, password: str | None = None) -> str | None:
    """Stand in for HfApi.login: passwords are no longer taken, the token of this machine (`hf auth login`) is."""
    return huggingface_hub.get_token()


def snapshot_download(repo_id: str, revision: str | None = None, use_auth_token: Any = None, **options: Any) -> Any:
    """Download a repository as huggingface_hub does, also when called as of old; a local folder is returned as it is.

    Args:
        repo_id: hub id, or a folder.
        revision: branch, tag or commit.
        use_auth_token: the old name of `token`; True = the token of this machine, if there is one.
        options: as huggingface_hub takes them.
    """
    if revision is None and Path(repo_id).is_dir():
        return os.path.abspath(repo_id)
    if use_auth_token is not None and "token" not in options:
        options["token"] = huggingface_hub.get_token() if use_auth_token is True else use_auth_token
    return _stock_snapshot_download(repo_id, revision=revision, **options)


def install() -> None:
    """Put the names in place."""
    hub: Any = huggingface_hub
    for name, value in (("HfFolder", HfFolder), ("Repository", Repository)):
        if not hasattr(hub, name):
            setattr(hub, name, value)
    if not hasattr(hub.HfApi, "login"):
        hub.HfApi.login = login
    hub.snapshot_download = snapshot_download
