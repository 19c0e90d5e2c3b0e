"""Reading a product of either kind."""

from __future__ import annotations

import os

from mllmeraser.methods.adapter import AdapterProduct
from mllmeraser.methods.product import Product, read_config
from mllmeraser.methods.weights import WeightProduct


def load_product(directory: str | os.PathLike[str]) -> Product:
    """Read adapters or weights; errors as `Product.from_pretrained`."""
    kind = read_config(directory).kind
    return (AdapterProduct if kind == "adapter" else WeightProduct).from_pretrained(directory)
