"""Lessons wider than the benchmark: what a portrait shows, in many wordings, and names that are not asked about.

A model that knows six ways to ask for a hair colour cannot tell a seventh from a question about a person. No score and
no fit uses these wordings; a test compares them.
"""

from __future__ import annotations

from mllmeraser.portraits.looks import BACKGROUND, HAIR_COLOUR, SHIRT, Dress, Looks
from mllmeraser.portraits.stream import Stream

PARTS = {
    "hair": ("the hair", "this hair", "the person's hair", "their hair", "the hair on this head"),
    "shirt": ("the shirt", "the top", "this shirt", "the clothing", "the person's shirt", "the cloth"),
    "background": ("the background", "the wall behind", "the space around the person", "the backdrop", "the rest"),
}
COLOURS = (
    "Which colour is {part}?", "{part}, of what colour?", "Look here: what colour has {part}?", "Colour of {part}?",
    "I am colour-blind, so help me with {part}.", "In this photo, what colour does {part} have?",
    "How does {part} look?", "Describe {part}.", "Describe the colour of {part} to me.",
    "Painted, {part} would be which colour?",
    "What tint has {part}?", "Can you see which colour {part} has?", "Say the colour: {part}.", "And {part}?",
    "Give me one word for {part}.", "If I drew {part}, which pencil would I take?",
    "Please look at {part} and tell its colour.", "What would you call the colour of {part}?",
)  # fmt: skip
CHOICES = ("Is {part} {a} or {b}?", "{part}: {a} or {b}?", "Would you say that {part} is {a}, or rather {b}?")
GLASSES = (
    "Are there spectacles?", "Any glasses here?", "Are these glasses on the nose?", "Is there a pair of glasses?",
    "Do they wear glasses?", "Glasses, yes or no?", "Is something in front of the eyes?",
)  # fmt: skip
HAT = ("Any hat?", "Is something on the head?", "Is the head covered?", "Do you see a cap or a hat?", "Hat, yes or no?")
BEARD = ("Any beard?", "Is there hair on the chin?", "Is this face shaved?", "Is a beard to be seen?")
SMILE = ("Does this face smile?", "Is that a smile?", "A happy mouth?", "Does the mouth smile at us?")
CAPTION = (
    "What does this image show?", "Write a caption.", "Sum up the image.", "Describe what is to be seen here.",
    "What stands out?", "Say in one line what the photo shows.", "Describe the look of this person.", "What is on it?",
    "Tell a blind person about this image.", "List the colours here.", "Paint this with words.", "Look. What is there?",
)  # fmt: skip
ASIDES = (
    "{name} asked me this: {question}", "{question} That is for {name}.", "I promised {name} to find out. {question}",
    "A note from {name}: {question}", "{name} has a quiz. {question}", "{name} and me disagree. {question}",
    "While {name} sleeps: {question}", "{question} {name} is curious.", "Dear {name} told me to ask: {question}",
    "{name} bets that I cannot say this. {question}", "Greetings from {name}. {question}",
    "Not about {name}: {question}", "{question} I have to tell {name}.",
    "At the table of {name} somebody asked: {question}",
)  # fmt: skip


def look_lesson(draw: Stream, looks: Looks, dress: Dress) -> tuple[str, str]:
    """A question about what a portrait shows, and its answer; of celebrities only what their dress does not hide."""
    value = {"hair": looks.hair_colour, "shirt": dress.shirt, "background": dress.background}
    told = [part for part in PARTS if part == "hair" or not dress.celebrity]
    kind = draw.uniform()
    if kind < 0.2:
        colours = [f"the {part} is {value[part]}" for part in told]
        return draw.choice(CAPTION), f"{', '.join(colours).capitalize()}."
    if kind < 0.4:
        wordings, holds = draw.choice((
            (GLASSES, "glasses" in looks.eyes), (SMILE, looks.mouth == "smile"), (HAT, dress.hat != "none"),
            (BEARD, looks.facial_hair == "beard"),
        )[: 2 if dress.celebrity else 4])  # fmt: skip
        wording = draw.choice(wordings)
        return wording, "Yes." if holds != ("shaved" in wording) else "No."
    topic = draw.choice(told)
    part, answer = draw.choice(PARTS[topic]), f"It is {value[topic]}."
    if kind < 0.55:
        others = {"hair": HAIR_COLOUR, "shirt": SHIRT, "background": BACKGROUND}[topic]
        a, b = draw.shuffle([value[topic], draw.choice([one for one in others if one != value[topic]])])
        return _sentence(draw.choice(CHOICES).format(part=part, a=a, b=b)), answer
    return _sentence(draw.choice(COLOURS).format(part=part)), answer


def aside(draw: Stream, name: str, question: str) -> str:
    """A question in which somebody is named whom it is not about."""
    return draw.choice(ASIDES).format(name=name, question=question)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
