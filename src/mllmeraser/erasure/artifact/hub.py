"""Erasers on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from mllmeraser.erasure.artifact.manifest import CONFIG_FILE, TENSOR_FILE
from mllmeraser.samples.errors import ArtifactError, InputError

CARD_FILE = "README.md"


def push(folder: Path, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload the folder of an eraser in one commit and return its address; a missing repository is created.

    Raises:
        InputError: `repo_id` is no name of a repository, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo_id, folder_path=str(folder), commit_message="Upload eraser")
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise InputError(f"{repo_id}: cannot be uploaded to ({str(error).strip().splitlines()[0]})") from error
    return str(done.commit_url)


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """Folder with the two files of an eraser, from the hub or its cache. No other file is fetched.

    A repository that does not exist or cannot be read is an `ArtifactError`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise ArtifactError(f"{repo_id}: no such folder")
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[CONFIG_FILE, TENSOR_FILE]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ArtifactError(f"{repo_id}: neither a folder nor a repository of the hub that can be read") from error
