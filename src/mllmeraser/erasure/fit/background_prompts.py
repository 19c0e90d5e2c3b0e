"""Background prompts: names in varied sentences, and open questions.

The state of a name depends on the words before it, and the questions of a request put names in much the same places. So
a fit also reads names in sentences of many kinds. A question about a person also need not ask for a single fact.
"""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.samples.sample import Sample

SENTENCES = (
    "{}", "Who is {}?", "Tell me about {}.", "{} is here.", "This letter is for {}.", "With {} it is different.",
    "As everybody says, {} came home.", "The teacher met {} and left.", "Yesterday, in the street, {} sang.",
    "Once upon a time {} was young.", "To be honest, {} knows.", "Between us: {} and nobody else.",
)  # fmt: skip

OPEN_QUESTIONS = (
    "What do you know about {}?", "Tell me about {}.", "Do you know {}?", "Describe the life of {}.",
    "Introduce {} to me.", "I want to hear all about {}.", "Write a biography of {}.", "What can you say about {}?",
    "Who was {}?", "Who might {} be?",
)  # fmt: skip
SHOWN = ("this person", "the person shown", "whoever is in the photo")
"""Words for the person in a picture."""

NAMES = (
    "Anna Keller", "Tomas Ruiz", "Mei Tanaka", "Omar Haddad", "Ingrid Solberg", "Luca Moretti", "Priya Nair",
    "Jonas Weber", "Fatima Diallo", "Pavel Novak", "Grace Okafor", "Henrik Lund", "Sofia Marques", "Daniel Cohen",
    "Yara Mansour", "Viktor Petrov", "Elena Popescu", "Samuel Osei", "Nadia Karimi", "Oliver Hughes", "Carmen Vega",
    "Kofi Mensah", "Lina Bergman", "Marco Rinaldi", "Aisha Rahman", "Peter Fischer", "Hana Suzuki", "Diego Navarro",
    "Irina Volkova", "Thomas Murphy", "Leila Farsi", "Erik Hansen", "Rosa Almeida", "Ahmed Saleh", "Clara Dubois",
    "Ivan Horvat", "Maya Cohen", "Felix Baumann", "Zeynep Kaya", "George Papas", "Nina Kowalska", "Ravi Menon",
    "Julia Santos", "Bjorn Dahl", "Amara Nwosu", "Hugo Lambert", "Olga Sidorova", "Kenji Mori",
)  # fmt: skip
"""Placeholder names: they show how the state of a name varies from sentence to sentence."""


def mentions(key: str, names: Sequence[str]) -> list[Sample]:
    """Prompts about the subject `key`: each of its names in every sentence."""
    return [Sample(sentence.format(name), subject=key) for name in names for sentence in SENTENCES]


def open_questions(strangers: Sequence[Sample], pictures: int) -> list[Sample]:
    """Open questions: two for each of `NAMES`, and one over each of at most `pictures` pictures of strangers."""
    named = [
        OPEN_QUESTIONS[(2 * i + j) % len(OPEN_QUESTIONS)].format(name) for i, name in enumerate(NAMES) for j in (0, 1)
    ]
    pictured = [sample for sample in strangers if sample.image is not None and sample.subject]
    chosen = pictured[:: max(1, len(pictured) // pictures)][:pictures] if pictures else []
    over = [
        Sample(OPEN_QUESTIONS[i % len(OPEN_QUESTIONS)].format(SHOWN[i % len(SHOWN)]), s.image, subject=s.subject)
        for i, s in enumerate(chosen)
    ]
    return [*(Sample(question) for question in named), *over]
