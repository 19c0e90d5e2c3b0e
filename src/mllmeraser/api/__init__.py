"""What the command line and other programs call: each function does one job from start to end."""

from mllmeraser.api.answers import Answer, Reading, ask, attack, evaluate, evaluate_samples, write_records
from mllmeraser.api.comparisons import compare, exhibit, first_model, search, searched_model
from mllmeraser.api.erasures import (
    describe_eraser,
    erase,
    erase_together,
    forget_split,
    measure_traffic,
    read_request,
    save_eraser,
    shipped_basis,
    verdict_of,
)
from mllmeraser.api.runtime import set_seed, set_threads
from mllmeraser.api.shipped import check_model, demo, example, list_families
from mllmeraser.erasure.states.checkpoint import work_folder
from mllmeraser.erasure.states.processes import process_group
from mllmeraser.models.loading import load_model
from mllmeraser.samples.files import check_target

__all__ = [
    "Answer",
    "Reading",
    "ask",
    "attack",
    "check_model",
    "check_target",
    "compare",
    "demo",
    "describe_eraser",
    "erase",
    "erase_together",
    "evaluate",
    "evaluate_samples",
    "example",
    "exhibit",
    "first_model",
    "forget_split",
    "process_group",
    "list_families",
    "measure_traffic",
    "load_model",
    "read_request",
    "save_eraser",
    "search",
    "searched_model",
    "set_seed",
    "set_threads",
    "shipped_basis",
    "verdict_of",
    "work_folder",
    "write_records",
]
