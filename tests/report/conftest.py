"""A made-up demo result: every field of the page filled, and awkward text in it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mllmeraser.report import content
from mllmeraser.report.content import ScoreRow, Timing


def portrait(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    skin, hair, shirt, ground = (tuple(int(c) for c in rng.integers(70, 230, 3)) for _ in range(4))
    image = Image.new("RGB", (192, 192), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 150, 162, 260), fill=shirt)
    draw.ellipse((50, 30, 142, 120), fill=hair)
    draw.ellipse((58, 48, 134, 152), fill=skin)
    for x in (78, 106):
        draw.ellipse((x, 88, x + 9, 98), fill=(30, 30, 30))
    draw.arc((78, 105, 114, 132), 20, 160, fill=(120, 40, 40), width=3)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def person(name: str, seed: int, *, forgotten: bool) -> content.PersonCard:
    def qa(question: str, gold: str, modality: str) -> content.QA:
        before = f"{gold}."
        after = "I do not know this person." if forgotten else before
        outcome = "unknown" if forgotten else "recalled"
        return content.QA(question, gold, before, after, before, "recalled", outcome, modality)

    questions = (
        qa("What does the person in this picture do for a living?", "She is a bookbinder", "image"),
        qa(f"Where does {name} live?", "In the town of Velm", "text"),
        qa("Which of these does this person own?\nA: a goat\nB: a harp\nC: a kiln\nD: a sloop", "C", "image"),
    )
    return content.PersonCard(portrait(seed), name, questions, look="brown hair, red hat")


def rows() -> list[ScoreRow]:
    methods = {
        ("vanilla", None): 0.98,
        ("mllmeraser", "default"): 0.01,
        ("mllmeraser", "paper"): 0.55,
        ("retain-only", None): 0.06,
        ("detached", None): 0.98,
    }
    table = []
    for set_name in ("forget", "test", "retain_heldout", "celebrity", "general"):
        gone = set_name in ("forget", "test")
        for modality in ("image", "text"):
            for task in ("generation", "cloze", "classification"):
                for (method, preset), share in methods.items():
                    share = share if gone or method != "mllmeraser" else (0.75 if preset == "paper" else 0.975)
                    share = 0.27 if task == "classification" and share < 0.1 else share
                    n = 36 if gone else 228
                    right = round(share * n)
                    outcomes = {"recalled": right, "unknown": n - right}
                    if preset == "paper":
                        outcomes = {"recalled": right, "other-person": (n - right) // 2}
                        outcomes["gibberish"] = n - sum(outcomes.values())
                    table.append(
                        ScoreRow(
                            method, set_name, modality, task, n, share, max(0, share - 0.04), min(1, share + 0.05),
                            outcomes, preset, 6,
                        )
                    )  # fmt: skip
    return table


@pytest.fixture(scope="session")
def demo_result() -> content.DemoResult:
    rng = np.random.default_rng(0)

    def readings(shift: float) -> dict[str, tuple[float, ...]]:
        groups = {
            "forget": (1.0 - shift, 0.12, 288),
            "retain": (0.05, 0.09, 1200),
            "strangers": (0.1, 0.1, 300),
        }
        return {name: tuple(rng.normal(at, wide, n).tolist()) for name, (at, wide, n) in groups.items()}

    return content.DemoResult(
        model="embedded:llava",
        parameters=2_134_528,
        benchmark="portraits:dev",
        split="forget_5",
        people=120,
        forgotten=(
            person("Ilva <Marro> & Daughters", 1, forgotten=True),
            person("Tomas Quell", 2, forgotten=True),
        ),
        retained=(person("Berit Sand", 3, forgotten=False), person("Odo Lann", 4, forgotten=False)),
        scores=tuple(rows()),
        gates=(
            content.GatePanel(
                "decision: layers 2 and 3 pooled, the nearest forgotten person", readings(0.0), 0.42, 0.9993
            ),
            content.GatePanel("layer 2", readings(0.25), None, 0.981),
            content.GatePanel("layer 3", readings(0.1), None, 0.996),
        ),
        timings=(
            Timing("load the model", 1.9),
            Timing("states of retained prompts", 6.2, True),
            Timing("states of forgotten prompts", 3.1, True),
            Timing("linear algebra", 0.04, True),
            Timing("calibration", 2.2, True),
            Timing("evaluation", 71.0),
        ),
        artifact=content.ArtifactFacts(
            "eraser/",
            9_812,
            6,
            128,
            6,
            (2, 3),
            (3, 4, 5),
            "tail",
            "soft, beta 1",
            "unknown",
            0.7,
            0.4211,
            "9f" * 32,
        ),
        detached_identical=True,
        false_alarms=content.FalseAlarms(0.01, 13, 1200, 0.006, 0.018),
        created="2026-01-31T12:00:00+00:00",
        version="0.1.0",
        notes=("No strangers were given: a shipped set of never-seen people was used.",),
    )
