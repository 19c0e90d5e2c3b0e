"""Names in places where no question of a request need have them, and questions that no request need ask.

The state of a name depends on what stands before it, and the questions of a request all have it in much the same
places; so the fit also looks at it in sentences of many kinds. And whoever wants to know about a person need not ask
for a single fact.
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
"""Who is meant where there is a picture and no name."""
PICTURES = 96
"""Pictures over which such questions are read."""

NAMES = (
    "Anna Keller", "Tomas Ruiz", "Mei Tanaka", "Omar Haddad", "Ingrid Solberg", "Luca Moretti", "Priya Nair",
    "Jonas Weber", "Fatima Diallo", "Pavel Novak", "Grace Okafor", "Henrik Lund", "Sofia Marques", "Daniel Cohen",
    "Yara Mansour", "Viktor Petrov", "Elena Popescu", "Samuel Osei", "Nadia Karimi", "Oliver Hughes", "Carmen Vega",
    "Kofi Mensah", "Lina Bergman", "Marco Rinaldi", "Aisha Rahman", "Peter Fischer", "Hana Suzuki", "Diego Navarro",
    "Irina Volkova", "Thomas Murphy", "Leila Farsi", "Erik Hansen", "Rosa Almeida", "Ahmed Saleh", "Clara Dubois",
    "Ivan Horvat", "Maya Cohen", "Felix Baumann", "Zeynep Kaya", "George Papas", "Nina Kowalska", "Ravi Menon",
    "Julia Santos", "Bjorn Dahl", "Amara Nwosu", "Hugo Lambert", "Olga Sidorova", "Kenji Mori",
)  # fmt: skip
"""Names of nobody in particular: how the state of a name varies from sentence to sentence."""


def mentions(key: str, names: Sequence[str]) -> list[Sample]:
    """Prompts about the subject ``key``, each of its names in every sentence."""
    return [Sample(sentence.format(name), subject=key) for name in names for sentence in SENTENCES]


def open_questions(strangers: Sequence[Sample]) -> list[Sample]:
    """Questions for nothing in particular, each of ``NAMES`` in two of them, and over pictures of ``strangers``."""
    named = [
        OPEN_QUESTIONS[(2 * i + j) % len(OPEN_QUESTIONS)].format(name) for i, name in enumerate(NAMES) for j in (0, 1)
    ]
    pictured = [sample for sample in strangers if sample.image is not None and sample.subject]
    chosen = pictured[:: max(1, len(pictured) // PICTURES)][:PICTURES]
    shown = [OPEN_QUESTIONS[i % len(OPEN_QUESTIONS)].format(SHOWN[i % len(SHOWN)]) for i in range(len(chosen))]
    over = [
        Sample(question, sample.image, subject=sample.subject) for question, sample in zip(shown, chosen, strict=True)
    ]
    return [*(Sample(question) for question in named), *over]
