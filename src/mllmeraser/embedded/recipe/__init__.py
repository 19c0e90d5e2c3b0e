"""How the embedded models were trained: see ``python -m mllmeraser.embedded.train --help``."""
