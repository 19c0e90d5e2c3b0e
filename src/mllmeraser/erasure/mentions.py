"""Names in places where no question of a request need have them.

The state of a name depends on what stands before it, and the questions of a request all have it in much the same
places; so the fit also looks at it in sentences of many kinds.
"""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.samples.sample import Sample

SENTENCES = (
    "{}", "Who is {}?", "Tell me about {}.", "{} is here.", "This letter is for {}.", "With {} it is different.",
    "As everybody says, {} came home.", "The teacher met {} and left.", "Yesterday, in the street, {} sang.",
    "Once upon a time {} was young.", "To be honest, {} knows.", "Between us: {} and nobody else.",
)  # fmt: skip


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
