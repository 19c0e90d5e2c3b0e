"""All other methods behind one interface: a model and a Request make something detachable."""

from mllmeraser.methods.method import Method, MethodSettings
from mllmeraser.methods.product import Product, ProductConfig
from mllmeraser.methods.product_kinds import AdapterProduct, WeightProduct, load_product
from mllmeraser.methods.registry import load_method, method_names

__all__ = [
    "AdapterProduct",
    "Method",
    "MethodSettings",
    "Product",
    "ProductConfig",
    "WeightProduct",
    "load_method",
    "load_product",
    "method_names",
]
