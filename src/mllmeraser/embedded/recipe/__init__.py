"""How the embedded models were trained, from nothing but this package.

See ``python -m mllmeraser.embedded.train --help``.
"""
