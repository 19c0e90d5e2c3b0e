"""Draw the figures of docs/ablations.md and docs/studies.md from committed results: ``python tools/study_figures.py``.

A figure without a result is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from readme_tables import MODELS, ROOT  # noqa: E402
from study_tables import entries  # noqa: E402

DOCS = ROOT / "docs"
Entry = Mapping[str, Any]
PRESETS = ("default", "tail", "paper")
COLOURS = dict(zip((*PRESETS, "other"), ("tab:green", "tab:blue", "tab:red", "tab:gray"), strict=True))


def trade_off(axes: Axes, rows: Sequence[Entry]) -> None:
    """Every row of the ablations: remaining recall of the forgotten, and share of changed other answers."""
    for preset, colour in COLOURS.items():
        own = [row for row in rows if "recalled" in row and _preset(row["name"]) == preset]
        axes.scatter(
            [100 * row["recalled"]["share"] for row in own],
            [100 * row["changed"]["share"] for row in own],
            s=18, alpha=0.6, color=colour, label=preset, linewidths=0,
        )  # fmt: skip
    for row in rows:
        if row["section"] == "policies" and "recalled" in row and row["name"] != "bare model":
            place = (100 * row["recalled"]["share"], 100 * row["changed"]["share"])
            axes.annotate(row["name"], place, xytext=(6, 6), textcoords="offset points", fontsize=8)
    axes.set(xlabel="recalled of the forgotten, %", ylabel="other answers changed, %")
    axes.set_yscale("symlog", linthresh=1)


def _preset(name: str) -> str:
    found = re.split(r"[ ,]", name)[0]
    return found if found in PRESETS else "other"


def strength(axes: Axes, rows: Sequence[Entry]) -> None:
    """Recall of the forgotten, with its interval, over the strength of the shift."""
    for preset in ("default", "paper"):
        own = [row for row in rows if row["section"] == "strength" and row["name"].startswith(f"{preset},")]
        if own:
            x = [float(row["name"].rpartition(" ")[2]) for row in own]
            shares = [row["recalled"] for row in own]
            axes.plot(x, [100 * s["share"] for s in shares], "o-", color=COLOURS[preset], label=preset, markersize=3)
            low, high = ([100 * s[end] for s in shares] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=COLOURS[preset], alpha=0.15, linewidth=0)
    axes.set(xlabel="strength", ylabel="recalled of the forgotten, %", ylim=(-2, 102))
    axes.set_xscale("symlog", linthresh=1)


def cost(axes: Axes, rows: Sequence[Entry]) -> None:
    """Seconds of a batch beyond the bare model, over the number of erasers."""
    erasers = [row["erasers"] for row in rows]
    for name, label in (("prefill", "reading eight prompts"), ("generate", "and 24 tokens for each")):
        seconds = [row[f"{name}_seconds"] for row in rows]
        axes.plot(erasers, [1e3 * (s["steered"] - s["bare"]) for s in seconds], "o-", label=label, markersize=4)
    axes.set(xlabel="erasers attached", ylabel="more than the bare model, ms", xscale="log")


def size(axes: Axes, rows: Sequence[Entry]) -> None:
    """Bytes over the number of erasers."""
    erasers = [row["erasers"] for row in rows]
    for name, label in (("bytes_on_disk", "on disk"), ("bytes_attached", "attached")):
        axes.plot(erasers, [row[name] / 1e6 for row in rows], "o-", label=label, markersize=4)
    axes.set(xlabel="erasers", ylabel="MB", xscale="log", yscale="log")


def draw(file: Path, panels: Sequence[tuple[str, Any, Sequence[Entry]]]) -> None:
    """Write one row of panels as SVG. Equal results give equal files."""
    if not panels:
        return
    with matplotlib.rc_context({"svg.hashsalt": "mllmeraser", "svg.fonttype": "none", "font.size": 9}):
        figure, row = plt.subplots(
            1, len(panels), figsize=(3.7 * len(panels), 3.3), layout="constrained", squeeze=False
        )
        for axes, (title, make, rows) in zip(row[0], panels, strict=True):
            make(axes, rows)
            axes.set_title(title, fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=8)
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
    print(file.relative_to(ROOT))


def main() -> None:
    """Draw all figures with results."""
    ablations = {model: list(entries("ablation", model).values()) for model in MODELS}
    measured = [(model, rows) for model, rows in ablations.items() if rows]
    for name, make in (("trade-off", trade_off), ("strength", strength)):
        draw(DOCS / f"ablation-{name}.svg", [(f"embedded:{model}", make, rows) for model, rows in measured])
    costs = []
    for model in MODELS:
        rows = [row for key, row in entries("many-erasers", model).items() if key.startswith("cost of ")]
        costs += [(f"embedded:{model}, {name}", make, rows) for name, make in (("time", cost), ("size", size)) if rows]
    draw(DOCS / "many-erasers.svg", costs)


if __name__ == "__main__":
    main()
