"""The embedded benchmark: fictitious people with drawn portraits, in the schema of MLLMU-Bench.

>>> from mllmeraser.portraits import build
>>> rows = build("unit", seed=0)
>>> len(rows["forget_5"]), rows["forget_5"][0]["ID"]  # doctest: +SKIP
"""

from .people import SIZES, Person, World
from .store import build, digest, write

__all__ = ["SIZES", "Person", "World", "build", "digest", "write"]
