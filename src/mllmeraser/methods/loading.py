"""Reading a product whatever its kind."""

from __future__ import annotations

import os

from mllmeraser.methods.adapter import AdapterProduct
from mllmeraser.methods.product import Product, read_config
from mllmeraser.methods.weights import WeightProduct


def load_product(directory: str | os.PathLike[str]) -> Product:
    """The adapters or weights that a method saved in `directory`.

    Raises:
        ArtifactError: See `Product.from_pretrained`.
    """
    kind = read_config(directory).kind
    return (AdapterProduct if kind == "adapter" else WeightProduct).from_pretrained(directory)
