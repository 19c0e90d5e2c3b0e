"""Studies of the erasers on the shipped models: ``python -m mllmeraser.studies.NAME``."""
