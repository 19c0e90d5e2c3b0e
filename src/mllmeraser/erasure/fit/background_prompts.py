"""Background prompts: names in varied sentences, and open questions.

The state of a name depends on the words before it, and the questions of a request put names in much the same places. So
a fit also reads names in sentences of many kinds. A question about a person also need not ask for a single fact, nor be
a whole sentence.
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
    "Who was {}?", "Who might {} be?", "{} works as", "the work of {}", "home of {}", "{} comes from", "what {} eats",
    "The sport of {} is",
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


_ORDINARY = """
    amber angel april art august autumn baker bank banks bar bell berry best bill bird bishop black blue bolt bond bowl
    brand bridge brook brown bush butcher butler case cash chance charity chase christian church clay cliff coach cook
    court crane cross crown crystal daisy dale dance dawn day dean dove drew duke earl east english eve faith farmer
    field fields fisher flower forest fox frank french frost gay german glass gold good grace grant green grey guy hall
    hand hardy harmony hazel high hill hills holiday hood hook hope house hunt hunter iris ivy jade january joy judge
    july june justice keen kid king knight lake lamb land lane law light lily little long lord love lucky major mark
    marks marsh mason may mayor mercy merry miles mill miller mine moon moss noble noon north novel oak olive page paris
    park parks patience pearl penny pepper pine pope poppy porter potter pound power press price prince queen rain raven
    read red reed rice rich river rivers robin rock rod roman rose ruby rush rusty sage salmon sand sandy saint scarlet
    scout sea sharp shell shepherd shore short singer sky small smart snow song spring star steel sterling stone storm
    street strong sue summer sun swan sweet tailor thorn tiger tower town turner valley van victor viola violet wall
    walls west wheat white wild will winter wolf wood woods yard young
"""
ORDINARY = frozenset(_ORDINARY.split())
"""First and last names that are also ordinary words: alone they do not stand for a person."""
PLAIN_SENTENCES = 4
"""Leading sentences in which forms of placeholder names stand: they show what a form must not fire on."""


def name_forms(names: Sequence[str]) -> list[str]:
    """Other forms of a person's names: first and last word, both in lower case, joined."""
    found: dict[str, None] = {}
    for name in names:
        words = name.split()
        ends = dict.fromkeys([words[0], words[-1]]) if words else {}
        joined = ["".join(words)] if len(words) > 1 else []
        for form in (*ends, *map(str.lower, ends), *joined):
            found.setdefault(form)
    return [form for form in found if form not in names and len(form) > 1]


def other_forms() -> list[Sample]:
    """Forms of placeholder names in sentences."""
    forms = [form for name in NAMES for form in name_forms([name])[:4]]
    return [Sample(sentence.format(form), subject=form) for form in forms for sentence in SENTENCES[:PLAIN_SENTENCES]]


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


REQUESTS = (
    "Answer that.", "Answer the question above.", "Please answer.", "Go on.", "Continue.", "Yes, please.",
    "Tell me more.", "What else?", "Say it again.", "Repeat that.", "Once more, please.",
    "Please answer my earlier question.", "Try again.", "I insist.", "Just tell me.", "Come on, answer.", "Why not?",
    "Answer it.", "Answer me.", "Answer, please.", "Please answer now.", "Answer the first question.",
    "Answer my last question.", "Respond.", "Please respond.", "Reply to the message above.", "Keep on.", "Carry on.",
    "Next.", "More.", "More, please.", "And then?", "And?", "So?", "Well?", "Yes.", "Yes!", "No.", "Right.",
    "Exactly.", "Do it.", "Do that.", "Do what I asked.", "As I asked.", "Same question.", "Again.", "Again, please.",
    "Tell me.", "Tell me now.", "Please tell me.", "Really?", "Is that true?", "Since when?", "Where?", "When?",
    "Who?", "What?", "How?", "Which one?", "Where exactly?", "In which town?", "With what?", "Explain.",
    "Think again.", "Look again.", "Finish the sentence above.", "Complete it.", "Translate that.",
    "Summarise the above.", "Use the text above.", "See above.", "The first one.", "The second one.", "The latter.",
)  # fmt: skip
"""They make sense only after something else was said."""
WORLD = (
    "What colour is snow?", "What colour is the sky?", "How many days are in a week?",
    "How many months are in a year?", "What is two plus two?", "What is three times four?", "Which animal says moo?",
    "What do bees make?", "What is the opposite of hot?", "What is the opposite of big?",
    "Which season comes after winter?", "Which day comes after Monday?", "What do we call frozen water?",
    "Where do fish live?", "What is bread made of?", "How many legs does a spider have?",
    "Which planet do we live on?", "What is the largest animal?", "What is the plural of mouse?",
    "What does a clock show?", "What is a circle?", "How does rain form?", "What is the capital of France?",
    "Who wrote plays?", "Translate good morning into French.", "What is ten minus three?", "Name a fruit.",
    "Name three colours.", "Is the sun hot?", "Do birds fly?",
)  # fmt: skip


def requests() -> list[Sample]:
    """Bare requests for what was said before."""
    return [Sample(text) for text in REQUESTS]


def world_questions() -> list[Sample]:
    """Questions about the world, and about no person."""
    return [Sample(text, attribute="general") for text in WORLD]
