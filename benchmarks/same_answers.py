"""Do two versions of the code make the same erasers and give the same answers, to the bit?

    PYTHONPATH=OLD/src python benchmarks/same_answers.py record --out old.json
    python benchmarks/same_answers.py record --out new.json
    python benchmarks/same_answers.py compare old.json new.json --old COMMIT --new COMMIT

`record` forgets every fold with a preset and a fixed salt. It keeps a digest of each tensor and all answers. Older code
can run it, since it uses public names only. `compare` counts differences and writes `results/same-answers.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

MODELS = ("embedded:llava", "embedded:qwen2.5-vl")
RESULT = Path(__file__).parent / "results" / "same-answers.json"


def record(out: Path, preset: str, folds: list[int], most: int) -> None:
    """Write digests and answers of every model and fold; a fold that is in the file already is not repeated."""
    import torch

    from mllmeraser import FitSettings, erase, forget_split, load_benchmark, load_model
    from mllmeraser.evaluation.protocols import default_protocol

    torch.set_num_threads(1)
    kept: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    data = load_benchmark("portraits:dev")
    for name in MODELS:
        model = load_model(name)
        for fold in folds:
            if (key := f"{name}, fold {fold}") in kept:
                continue
            settings = FitSettings.preset(preset).model_copy(update={"salt": "fixed"})
            eraser = erase(model, forget_split("portraits:dev", "forget_5", fold), settings)
            sets = default_protocol(data).read(data, "forget_5", fold, names=None)
            with eraser.attached(model):
                answers = {
                    group: model.generate(list(samples)[:: max(1, len(samples) // most)], max_new_tokens=24)
                    for group, samples in sets.items()
                }
            tensors = {
                k: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for k, t in eraser.tensors.items()
            }
            kept[key] = {"tensors": tensors, "answers": answers}
            out.write_text(json.dumps(kept))
            print(key, "recorded", file=sys.stderr)


def compare(old: Path, new: Path, commits: tuple[str, str]) -> list[dict[str, Any]]:
    """Differences of each model and fold."""
    before, after = (json.loads(path.read_text()) for path in (old, new))
    rows = []
    for key in sorted(before.keys() | after.keys()):
        one, two = before.get(key, {}), after.get(key, {})
        names = one.get("tensors", {}).keys() | two.get("tensors", {}).keys()
        pairs = [
            (a, b)
            for group in one.get("answers", {})
            for a, b in zip_longest(one["answers"][group], two.get("answers", {}).get(group, []))
        ]
        rows.append(
            {
                "case": key,
                "tensors": len(names),
                "tensors_differ": sum(one.get("tensors", {}).get(n) != two.get("tensors", {}).get(n) for n in names),
                "answers": len(pairs),
                "answers_differ": sum(a != b for a, b in pairs),
            }
        )
    from mllmeraser.evaluation.provenance import provenance

    command = "python benchmarks/same_answers.py record, at both commits; then compare"
    content = {"provenance": provenance(command, 0), "old": commits[0], "new": commits[1], "cases": rows}
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return rows


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="make the erasers and keep digests and answers")
    recording.add_argument("--out", type=Path, required=True)
    recording.add_argument("--preset", default="default")
    recording.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    recording.add_argument("--most", type=int, default=400, help="answers per set, about (default: 400)")
    comparing = commands.add_parser("compare", help="count differences; exit code 1 if there are any")
    comparing.add_argument("files", type=Path, nargs=2)
    comparing.add_argument("--old", required=True, help="commit of the first file")
    comparing.add_argument("--new", required=True, help="commit of the second file")
    asked = parser.parse_args()
    if asked.command == "record":
        record(asked.out, asked.preset, asked.folds, asked.most)
        return
    rows = compare(*asked.files, (asked.old, asked.new))
    for row in rows:
        print(*(f"{name} {value}" for name, value in row.items()), sep=", ")
    sys.exit(any(row["tensors_differ"] or row["answers_differ"] for row in rows))


if __name__ == "__main__":
    main()
