"""Feed hostile files to the readers of requests: ``python benchmarks/fuzz_readers.py``.

Each input must be read, or refused in one line. The inputs are those of `tests/samples/test_fuzz.py`, in larger number;
100,000 of them take about half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mllmeraser.evaluation.provenance import BLOCK, provenance
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "samples"))

from hostile import READERS  # noqa: E402


def tried(kind: str, inputs: int, start: int, folder: Path) -> Counter[str]:
    """How many inputs of a kind were read and refused; any other error is raised."""
    files, read = READERS[kind]
    found: Counter[str] = Counter()

    @seed(start)
    @settings(
        max_examples=inputs, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        try:
            read(folder, data.draw(files))
            found["read"] += 1
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            found["refused"] += 1

    check()
    return found


def main() -> None:
    """Run all kinds and write the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "fuzz-readers.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results = []
    for kind in READERS:
        with tempfile.TemporaryDirectory() as folder:
            found = tried(kind, args.inputs // len(READERS), args.seed, Path(folder))
        results.append({"key": kind, "inputs": sum(found.values()), **found})
        print(results[-1], flush=True)
    command = f"python benchmarks/fuzz_readers.py --inputs {args.inputs} --seed {args.seed}"
    report = {BLOCK: provenance(command, args.seed), "results": results}
    write_whole(args.out, json.dumps(report, indent=1) + "\n", force=True)


if __name__ == "__main__":
    main()
