"""Made-up answers for the tests of searching."""

from __future__ import annotations

from typing import Any

SETS = ("retain_heldout", "celebrity", "general", "perception")


def answer(name: str, number: int, recalled: bool, outcome: str = "unknown", **more: str) -> dict[str, Any]:
    fixed = {"task": "generation", "modality": "image", "subject": f"p{number}", "answer": "x", "reason": ""}
    scores = {"rouge_l": None, "scores": {}, "option_letter": None, "option_correct": None}
    about = {"id": f"{name}/{number}/{more}", "set": name, "correct": recalled}
    return {**fixed, **scores, **about, "outcome": "recalled" if recalled else outcome, **more}
