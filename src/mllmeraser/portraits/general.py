"""General knowledge without identities: shape scenes, the look of a portrait, and small facts in text."""

from __future__ import annotations

from dataclasses import dataclass

from mllmeraser.portraits.looks import Dress, Looks
from mllmeraser.portraits.scenes import Scene, Thing
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import Pool, Pools, by_pool

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True)
class Question:
    """A question with its gold sentence, the keywords of a right answer, and its category."""

    text: str
    answer: str
    keywords: tuple[str, ...]
    category: str


_SCENE_WORDINGS: dict[str, Pools] = {
    "colour": by_pool(
        train="What colour is the {shape}? / Which colour does the {shape} have? / Name the colour of the {shape}. / "
        "Tell me the colour of the {shape}. / Could you name the colour of the {shape}? / "
        "Would you tell me the colour of the {shape}?",
        validation="What is the colour of the {shape}?",
        test="Could you tell me the colour of the {shape}? / Please name the colour of the {shape}.",
    ),
    "shape": by_pool(
        train="Which shape is {colour}? / What shape is {colour}? / Name the shape that is {colour}. / "
        "Which shape has the colour {colour}? / Could you name the shape that is {colour}? / "
        "Would you tell me which shape is {colour}?",
        validation="Tell me which shape is {colour}.",
        test="Could you tell me which shape is {colour}? / Please name the shape that is {colour}.",
    ),
    "count": by_pool(
        train="How many shapes are there? / How many shapes do you see? / Count the shapes. / "
        "How many shapes are in the picture? / Please tell me how many shapes there are. / Could you count the shapes?",
        validation="Count the shapes in the picture.",
        test="Please count the shapes. / How many shapes are in the image?",
    ),
    "relation": by_pool(
        train="Is the {a} left of the {b}? / Is the {a} to the left of the {b}? / "
        "Do you see the {a} left of the {b}? / Can you say if the {a} is left of the {b}? / "
        "Do you see the {a} to the left of the {b}?",
        validation="Is the {a} on the left of the {b}?",
        test="Can you see the {a} left of the {b}?",
    ),
    "size": by_pool(
        train="Is the {shape} large or small? / Which size does the {shape} have? / What size is the {shape}? / "
        "Tell me if the {shape} is large or small. / Could you name the size of the {shape}?",
        validation="Name the size of the {shape}.",
        test="Tell me the size of the {shape}.",
    ),
}

PORTRAIT_WORDINGS: dict[str, Pools] = {
    "hair": by_pool(
        train="What colour is the hair of this person? / Which colour does the hair of this person have? / "
        "Name the hair colour of this person. / What is the hair colour? / "
        "Could you name the hair colour of this person? / Would you tell me the colour of the hair?",
        validation="Tell me the hair colour of this person.",
        test="Could you tell me the hair colour of this person? / Please name the colour of the hair.",
    ),
    "shirt": by_pool(
        train="What colour is the shirt of this person? / Which colour does the shirt have? / "
        "Name the shirt colour. / What is the shirt colour of this person? / Could you name the shirt colour? / "
        "Would you tell me the shirt colour of this person?",
        validation="Tell me the colour of the shirt.",
        test="Could you tell me the colour of the shirt? / Please name the shirt colour.",
    ),
    "glasses": by_pool(
        train="Does this person wear glasses? / Are there glasses on this face? / "
        "Do you see glasses on this person? / Can you see if this person wears glasses?",
        validation="Do you see glasses on this face?",
        test="Can you see glasses on this person? / Are there glasses on this person?",
    ),
    "background": by_pool(
        train="What colour is the background? / Which colour does the background have? / "
        "Name the background colour. / What is the background colour? / Could you name the background colour? / "
        "Would you tell me the colour of the background?",
        validation="Tell me the colour of the background.",
        test="Could you tell me the colour of the background? / Please name the background colour.",
    ),
}

PORTRAIT_TOPICS = tuple(PORTRAIT_WORDINGS)
SCENE_TOPICS = tuple(_SCENE_WORDINGS)


def scene_question(stream: Stream, scene: Scene, topic: str, pool: Pool) -> Question | None:
    """One question about a scene; None if the scene does not determine the answer."""
    wording = stream.choice(_SCENE_WORDINGS[topic][pool])
    if topic == "count":
        count = NUMBERS[len(scene.objects)]
        verb, noun = ("is", "shape") if len(scene.objects) == 1 else ("are", "shapes")
        return Question(wording, f"There {verb} {count} {noun}.", (count,), topic)
    single = _single(scene, "colour" if topic == "shape" else "shape")
    if topic == "relation":
        return _relation(stream, single, wording)
    if not single:
        return None
    thing = stream.choice(single)
    if topic == "shape":
        return Question(wording.format(colour=thing.colour), f"It is a {thing.shape}.", (thing.shape,), topic)
    value = thing.colour if topic == "colour" else thing.size
    return Question(wording.format(shape=thing.shape), f"It is {value}.", (value,), topic)


def _single(scene: Scene, attribute: str) -> list[Thing]:
    """The things that share this attribute with no other thing of the scene."""
    values = [getattr(thing, attribute) for thing in scene.objects]
    return [thing for thing, value in zip(scene.objects, values, strict=True) if values.count(value) == 1]


def _relation(stream: Stream, things: list[Thing], wording: str) -> Question | None:
    if len(things) < 2:
        return None
    a, b = stream.sample(things, 2)
    if abs(a.x - b.x) < 0.15:
        return None
    answer = "Yes" if a.x < b.x else "No"
    return Question(wording.format(a=a.shape, b=b.shape), f"{answer}.", (answer.lower(),), "relation")


def portrait_question(stream: Stream, looks: Looks, dress: Dress, topic: str, pool: Pool) -> Question:
    """One question about the look of a portrait, without the identity."""
    wording = stream.choice(PORTRAIT_WORDINGS[topic][pool])
    if topic == "glasses":
        answer = "Yes" if "glasses" in looks.eyes else "No"
        return Question(wording, f"{answer}.", (answer.lower(),), topic)
    value = {"hair": looks.hair_colour, "shirt": dress.shirt, "background": dress.background}[topic]
    return Question(wording, f"It is {value}.", (value,), topic)


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(": ") for pair in text.split(", "))


_OPPOSITES = _pairs(
    "hot: cold, big: small, fast: slow, young: old, wet: dry, early: late, loud: quiet, rich: poor, strong: weak, "
    "open: closed, full: empty, hard: soft, light: dark, near: far, happy: sad, day: night",
)
_COLOURS = _pairs(
    "grass: green, snow: white, coal: black, blood: red, the sky: blue, a lemon: yellow, an orange: orange, "
    "milk: white, a cherry: red, a frog: green",
)
_KINDS = _pairs(
    "dog: animal, oak: tree, rose: flower, hammer: tool, piano: instrument, copper: metal, sparrow: bird, "
    "salmon: fish, ant: insect, carrot: vegetable, apple: fruit, violin: instrument, tulip: flower, iron: metal, "
    "eagle: bird, pine: tree",
)
_TEXT_WORDINGS: dict[str, Pools] = {
    "opposite": by_pool(
        train="What is the opposite of {x}? / Name the opposite of {x}. / Tell me the opposite of {x}. / "
        "Which word is the opposite of {x}? / Could you name the opposite of {x}? / "
        "Would you tell me the opposite of {x}?",
        validation="Give the opposite of {x}.",
        test="Could you tell me the opposite of {x}? / Please name the opposite of {x}.",
    ),
    "colour of": by_pool(
        train="What colour is {x}? / Which colour does {x} have? / Name the colour of {x}. / "
        "Tell me the colour of {x}. / Could you name the colour of {x}? / Would you tell me the colour of {x}?",
        validation="What is the colour of {x}?",
        test="Could you tell me the colour of {x}? / Please name the colour of {x}.",
    ),
    "kind of": by_pool(
        train="What kind of thing is a {x}? / What is a {x}? / Tell me what a {x} is. / Say what a {x} is. / "
        "Could you say what a {x} is? / Can you say what a {x} is?",
        validation="Do you know what a {x} is?",
        test="Could you tell me what a {x} is? / Can you tell me what a {x} is?",
    ),
    "next": by_pool(
        train="Which number comes after {x}? / What number comes after {x}? / Name the number after {x}. / "
        "Tell me the number after {x}. / Could you name the number after {x}? / "
        "Would you tell me the number after {x}?",
        validation="What comes after {x}?",
        test="Could you tell me the number after {x}? / Please name the number after {x}.",
    ),
}


def text_facts() -> list[tuple[str, str, str, str]]:
    """All small text facts as (category, subject, answer sentence, keyword)."""
    facts = [("opposite", a, f"It is {b}.", b) for a, b in _OPPOSITES.items()]
    facts += [("opposite", b, f"It is {a}.", a) for a, b in _OPPOSITES.items()]
    facts += [("colour of", a, f"It is {b}.", b) for a, b in _COLOURS.items()]
    facts += [("kind of", a, f"It is a kind of {b}.", b) for a, b in _KINDS.items()]
    facts += [("next", NUMBERS[i], f"It is {NUMBERS[i + 1]}.", NUMBERS[i + 1]) for i in range(1, 12)]
    return facts


def text_question(stream: Stream, fact: tuple[str, str, str, str], pool: Pool) -> Question:
    """A text-only question for one of ``text_facts``."""
    category, subject, answer, keyword = fact
    wording = stream.choice(_TEXT_WORDINGS[category][pool])
    return Question(wording.format(x=subject), answer, (keyword,), category)
