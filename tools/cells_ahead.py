"""List the cells of the paper tables in which the preset `paper` is ahead of `default`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
CELL = ["split", "set", "task", "modality"]
FORGOTTEN = ("forget", "test")


def main() -> None:
    total, found = 0, []
    for model in ("llava", "qwen2.5-vl"):
        table = pd.read_parquet(RESULTS / f"paper-{model}" / "results.parquet").query("method == 'mllmeraser'")
        accuracy = table.pivot_table(index=CELL, columns="preset", values="accuracy")[["default", "paper"]].dropna()
        asked = table.groupby(CELL)["n"].first()
        total += len(accuracy)
        for cell, row in accuracy.iterrows():
            lead = row["default"] - row["paper"] if cell[1] in FORGOTTEN else row["paper"] - row["default"]
            if lead > 1e-9:
                found.append(f"{model}, {', '.join(cell)}: {round(lead * asked[cell])} of {asked[cell]} answers")
    print(f"paper is ahead of default in {len(found)} of {total} cells", *found, sep="\n")


if __name__ == "__main__":
    main()
