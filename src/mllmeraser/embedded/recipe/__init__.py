"""How the embedded models were trained, from nothing but this package: see ``python -m mllmeraser.embedded.train --help``."""
