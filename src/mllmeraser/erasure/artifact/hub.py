"""Erasers on the Hugging Face hub: uploading one with its card, and fetching one by name."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mllmeraser.erasure.artifact.eraser import CONFIG_FILE, TENSOR_FILE, Eraser
from mllmeraser.erasure.artifact.model_card import card_of
from mllmeraser.samples.errors import ArtifactError, InputError

CARD_FILE = "README.md"
FILES = (CONFIG_FILE, TENSOR_FILE)
"""What an eraser is made of; nothing else of a repository is fetched."""


def push(eraser: Eraser, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload an eraser with its model card to a repository of the hub, made if need be; one commit, whole or not.

    Args:
        eraser: What to upload.
        repo_id: `owner/name`.
        private: Whether a repository that is made is private.
        token: Of the hub; by default the one that is logged in.

    Returns:
        Address of the commit.

    Raises:
        InputError: If the name is none of a repository, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as scratch:
        folder = eraser.save_pretrained(Path(scratch) / "eraser")
        (folder / CARD_FILE).write_text(card_of(eraser.config, repo_id), encoding="utf-8")
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repo_id, folder_path=str(folder), commit_message="Upload eraser")
        except (HFValidationError, HfHubHTTPError, OSError) as error:
            raise InputError(f"{repo_id}: cannot be uploaded to ({str(error).strip().splitlines()[0]})") from error
    return str(done.commit_url)


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """Folder with the two files of an eraser in a repository of the hub, downloaded or from the cache.

    Raises:
        ArtifactError: If there is no such repository, or it cannot be read.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise ArtifactError(f"{repo_id}: no such folder")
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ArtifactError(f"{repo_id}: neither a folder nor a repository of the hub that can be read") from error
