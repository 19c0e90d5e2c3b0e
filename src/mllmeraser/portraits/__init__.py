"""The embedded benchmark: fictitious people with drawn portraits, in the schema of MLLMU-Bench.

>>> from mllmeraser.portraits import World
>>> [person.name for person in World("unit").forget(5)]
['Kigol Sanur', 'Roros Mera']
"""

from mllmeraser.portraits.configs import Configs
from mllmeraser.portraits.people import SIZES, Person, World
from mllmeraser.portraits.store import build, digest, write

__all__ = ["SIZES", "Configs", "Person", "World", "build", "digest", "write"]
