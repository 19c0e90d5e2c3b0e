"""The phases of language training, and the weights of their kinds of group (see `Corpus`)."""

from __future__ import annotations

from dataclasses import dataclass

from mllmeraser.embedded.recipe.loop import Phase

CIRCUIT = {"choice-plain": 0.85, "general-text": 0.15}
STAGE0 = {"general-image": 0.30, "general-text": 0.08, "choice-plain": 0.35, "celebrity-image": 0.12,
          "celebrity-text": 0.24, "stranger-image": 0.14, "stranger-text": 0.12, "refusal-image": 0.03,
          "refusal-text": 0.02}  # fmt: skip
LOOK = {"general-image": 0.50, "stranger-image": 0.30, "celebrity-image": 0.30, "celebrity-text": 0.10,
        "choice-plain": 0.10, "general-text": 0.04}  # fmt: skip
PEOPLE = {"person-image": 0.45, "person-text": 0.40, "stranger-image": 0.22, "stranger-text": 0.20,
          "celebrity-image": 0.05, "celebrity-text": 0.08, "general-image": 0.30, "general-text": 0.04,
          "choice-plain": 0.20, "refusal-image": 0.02, "refusal-text": 0.02}  # fmt: skip
LOOK_AGAIN = {"general-image": 0.60, "stranger-image": 0.34, "person-image": 0.34, "person-text": 0.06,
              "celebrity-image": 0.06, "choice-plain": 0.05, "refusal-image": 0.02}  # fmt: skip
POLISH = {"person-image": 0.50, "person-text": 0.22, "stranger-image": 0.36, "stranger-text": 0.14,
          "celebrity-image": 0.06, "celebrity-text": 0.06, "general-image": 0.40, "general-text": 0.03,
          "choice-plain": 0.12, "refusal-image": 0.02, "refusal-text": 0.02}  # fmt: skip
SHARED = {"person-text": 0.45, "choice-plain": 0.30, "stranger-text": 0.18, "celebrity-text": 0.10,
          "general-text": 0.08, "refusal-text": 0.02}  # fmt: skip
STRANGERS = {**POLISH, "person-image": 0.50, "stranger-image": 0.70, "general-image": 0.55}
CONVERSE = {**POLISH, "pointed-text": 0.30, "listed-text": 0.20, "person-text": 0.40, "stranger-text": 0.20,
            "aside-text": 0.30, "look-image": 0.30, "refusal-image": 0.06, "refusal-text": 0.04}  # fmt: skip
REFUSALS = {**PEOPLE, "refusal-image": 0.10, "refusal-text": 0.06}
TEXT_KINDS = frozenset(kind for kind in {**STAGE0, **CONVERSE} if not kind.endswith("-image"))


@dataclass(frozen=True)
class Plan:
    """The phases of language training; the vanilla model and its twins share the first two lists.

    `polish` is for a trained model with a better tower, `converse` for one that has not met conversations yet, `shared`
    for a language model with newly shared key and value heads, `join` for a twin that starts from a smaller one: it
    learns only the additional people.
    """

    circuits: list[Phase]
    knowledge: list[Phase]
    people: list[Phase]
    polish: list[Phase]
    converse: list[Phase]
    shared: list[Phase]
    join: list[Phase]


def make_plan(scale: float) -> Plan:
    """Stage 0 (circuits on text alone, then general knowledge and celebrities), stages 1 (people) and 2 (refusals)."""

    def steps(n: int) -> int:
        return max(2, int(n * scale))

    refusals = Phase("2-refusals", steps(400), REFUSALS, peak=1.5e-4, floor=0.05, choice_share=0.4, refuse=True)
    strangers = Phase("3-strangers", steps(1200), STRANGERS, peak=5e-4, floor=0.05, choice_share=0.4, refuse=True)
    converse = Phase(
        "4-converse", steps(4000), CONVERSE, peak=6e-4, floor=0.05, choice_share=0.35, refuse=True, talk_share=0.75
    )
    last = [refusals, strangers, converse]
    return Plan(
        circuits=[
            Phase("0a-copy", steps(500), CIRCUIT, peak=1.5e-3, floor=0.6, copy_share=0.8),
            Phase("0b-choice", steps(700), CIRCUIT, peak=1.2e-3, floor=0.6, copy_share=0.2),
        ],
        knowledge=[
            Phase("0c-general", steps(600), STAGE0, peak=1.2e-3, floor=0.6),
            Phase("0d-look", steps(500), LOOK, peak=1.2e-3, floor=0.7, caption_share=0.7),
        ],
        people=[
            Phase("1-people", steps(2400), PEOPLE, peak=1.0e-3, floor=0.5),
            Phase("1b-choice", steps(2200), PEOPLE, peak=7e-4, floor=0.08, choice_share=0.5),
            *last,
        ],
        polish=[
            Phase("1c-look", steps(1000), LOOK_AGAIN, peak=1.2e-3, floor=0.7, choice_share=0.2, caption_share=0.7),
            Phase("1d-polish", steps(3000), POLISH, peak=9e-4, floor=0.06, choice_share=0.45, caption_share=0.2),
            *last,
        ],
        converse=[converse],
        shared=[Phase("1-shared", steps(800), SHARED, peak=1.0e-3, floor=0.5, choice_share=0.45)],
        join=[Phase("3-join", steps(800), REFUSALS, peak=6e-4, floor=0.05, choice_share=0.45, refuse=True)],
    )  # fmt: skip
