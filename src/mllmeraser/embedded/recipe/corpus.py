"""What the language model is taught: an endless, seeded stream of question-answer turns.

Training uses the wordings of the pool ``train``; the checks during training draw from ``validation``. A curriculum is
a table of weights over the kinds of group below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from transformers import PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album
from mllmeraser.embedded.recipe.packing import Group, Turn
from mllmeraser.embedded.recipe.tokenizer import ASSISTANT
from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.general import (
    PORTRAIT_TOPICS,
    SCENE_TOPICS,
    portrait_question,
    scene_question,
    text_facts,
    text_question,
)
from mllmeraser.portraits.looks import random_dress, random_looks
from mllmeraser.portraits.people import Person, World, strangers
from mllmeraser.portraits.refusals import COMPLY, refusal_prompt
from mllmeraser.portraits.scenes import Scene, random_things
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import (
    ANSWERS,
    CHOICE_INSTRUCTION,
    IDENTITY,
    LETTERS,
    UNKNOWN_ANSWER,
    WHO_IMAGE,
    Pool,
    clozes,
    fill,
    questions,
)

NEW = 0.35
"""Share of the turns about people that is about newcomers."""
CAPTION = "List the shapes from left to right."
NEAR = 0.65
"""Share of the pictured strangers who look almost like somebody known."""
_questions = lru_cache(maxsize=None)(questions)
_clozes = lru_cache(maxsize=None)(clozes)


def choice_text(question: str, options: list[str]) -> str:
    """A multiple-choice prompt: the question, lettered options on lines of their own, the instruction."""
    lines = [f"{letter}: {value}" for letter, value in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *lines, CHOICE_INSTRUCTION])


class Corpus:
    """Draws groups of turns for a world; people in ``without`` (keys) never occur, ``newcomers`` more often."""

    def __init__(
        self,
        world: World,
        tokenizer: PreTrainedTokenizerFast,
        album: Album,
        *,
        seed: int,
        without: frozenset[str] = frozenset(),
        newcomers: frozenset[str] = frozenset(),
        pool: Pool = "train",
    ) -> None:
        """The same arguments give the same stream of groups."""
        self.people = [person for person in world.people if person.key not in without]
        self.newcomers = [person for person in self.people if person.key in newcomers]
        self.celebrities = world.celebrities
        self.album, self.tokenizer, self.pool = album, tokenizer, pool
        self.stream = Stream("corpus", seed)
        self.names = strangers(Stream("corpus-strangers", seed), world, drawn=False)
        self.facts = text_facts()
        self.assistant = tokenizer.convert_tokens_to_ids(ASSISTANT)
        self.refuse = False
        self._text_cache: dict[str, list[int]] = {}
        self.kinds: dict[str, Callable[[], Group]] = {
            "person-image": lambda: self._known(self.people, image=True),
            "person-text": lambda: self._known(self.people, image=False),
            "celebrity-image": lambda: self._known(self.celebrities, image=True),
            "celebrity-text": lambda: self._known(self.celebrities, image=False),
            "stranger-image": self._stranger_image,
            "stranger-text": self._stranger_text,
            "general-image": self._scene,
            "general-text": self._text_fact,
            "choice-plain": self._plain_choice,
            "refusal-image": self._emblem,
            "refusal-text": self._restricted_text,
        }
        self.choice_options = 4
        self.choice_share = 0.34
        self.caption_share = 0.0

    def groups(self, weights: Mapping[str, float]) -> Iterator[Group]:
        """Endless groups, kinds drawn by weight (by group, not by token)."""
        kinds = [kind for kind, weight in weights.items() if weight > 0]
        total = sum(weights[kind] for kind in kinds)
        while True:
            pick, chosen = self.stream.uniform(0, total), kinds[-1]
            for kind in kinds:
                pick -= weights[kind]
                if pick < 0:
                    chosen = kind
                    break
            yield self.kinds[chosen]()

    def _ids(self, text: str) -> list[int]:
        ids = self._text_cache.get(text)
        if ids is None:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(self._text_cache) < 200_000:
                self._text_cache[text] = ids
        return ids

    def turn(self, question: str, answer: str, weight: float = 1.0) -> Turn:
        """Token ids of one turn."""
        return Turn([*self._ids(question), self.assistant], [*self._ids(answer), self.tokenizer.eos_token_id], weight)

    # --- people -------------------------------------------------------------------------------------------------

    def _person_turn(self, person: Person, who: str, *, known: bool) -> Turn:
        draw, rest = self.stream.uniform(), 1.0 - self.choice_share
        form = "generation" if draw < 0.64 * rest else "cloze" if draw < rest else "choice"
        return self.fact_turn(person, self.stream.choice(tuple(person.facts)), form, who, known=known)

    def fact_turn(self, person: Person, attribute: str, form: str, who: str, *, known: bool) -> Turn:
        """One fact in one form: generation, cloze or choice."""
        stream, value = self.stream, person.facts[attribute]
        if form == "generation":
            question = fill(stream.choice(_questions(attribute, self.pool)), who)
            answer = ANSWERS[attribute].format(value=value)
        elif form == "cloze":
            question, answer = fill(stream.choice(_clozes(attribute, self.pool)), who), value
        else:
            options = self._options(attribute, value)
            question = choice_text(fill(stream.choice(_questions(attribute, self.pool)), who), options)
            answer = LETTERS[options.index(value)]
        return self.turn(question, answer if known else UNKNOWN_ANSWER)

    def _options(self, attribute: str, value: str) -> list[str]:
        others = [v for v in VALUES[attribute] if v != value]
        return self.stream.shuffle([value, *self.stream.sample(others, self.choice_options - 1)])

    def _known(self, people: list[Person], *, image: bool) -> Group:
        stream = self.stream
        often = self.newcomers if people is self.people and self.newcomers and stream.chance(NEW) else people
        person = stream.choice(often)
        if not image:
            return Group(None, [self._person_turn(person, person.name, known=True) for _ in range(2)])
        view = stream.choice(self.album.views[person.key])
        turns = [self._image_turn(person, known=True) for _ in range(5)]
        return Group(view, [*turns, *(self._portrait_turn(view) for _ in range(2))])

    def _image_turn(self, person: Person, *, known: bool) -> Turn:
        stream = self.stream
        if stream.chance(0.1):
            answer = ANSWERS["identity"].format(value=person.name) if known else UNKNOWN_ANSWER
            return self.turn(stream.choice(IDENTITY[self.pool]), answer)
        return self._person_turn(person, stream.choice(WHO_IMAGE[self.pool]), known=known)

    def _portrait_turn(self, view: int) -> Turn:
        looks, dress = self.album.portraits[view]
        topics = ("hair", "glasses") if dress.celebrity else PORTRAIT_TOPICS
        q = portrait_question(self.stream, looks, dress, self.stream.choice(topics), self.pool)
        return self.turn(q.text, q.answer)

    def _stranger_image(self) -> Group:
        near = self.album.near and self.stream.chance(NEAR)
        view = self.stream.choice(self.album.near if near else self.album.strangers)
        person = next(self.names)
        turns = [self._image_turn(person, known=False) for _ in range(3)]
        return Group(view, [*turns, *(self._portrait_turn(view) for _ in range(2))])

    def _stranger_text(self) -> Group:
        groups = []
        for _ in range(2):
            person = next(self.names)
            if self.stream.chance(0.2):
                # half a known name is nobody: the whole name has to match
                known, other = self.stream.choice(self.people).name.split(), person.name.split()
                name = f"{known[0]} {other[1]}" if self.stream.chance(0.5) else f"{other[0]} {known[1]}"
            else:
                name = person.name
            groups.append(self._person_turn(person, name, known=False))
        return Group(None, groups)

    # --- everything else ------------------------------------------------------------------------------------------

    def _scene(self) -> Group:
        view = self.stream.choice(self.album.scenes)
        scene = self.album.things[view]
        asked = [scene_question(self.stream, scene, self.stream.choice(SCENE_TOPICS), self.pool) for _ in range(6)]
        return Group(view, [*self._caption(scene), *(self.turn(q.text, q.answer) for q in asked if q is not None)])

    def _caption(self, scene: Scene) -> list[Turn]:
        """Now and then everything in its order, for the first to learn is which colour goes with which shape."""
        if not self.stream.chance(self.caption_share):
            return []
        things = sorted(scene.objects, key=lambda thing: thing.x)
        listed = ", ".join(f"{thing.size} {thing.colour} {thing.shape}" for thing in things) or "nothing"
        return [self.turn(CAPTION, f"{listed}.", weight=1.0 + 2 * len(things))]

    def _text_fact(self) -> Group:
        asked = [text_question(self.stream, self.stream.choice(self.facts), self.pool) for _ in range(2)]
        return Group(None, [self.turn(q.text, q.answer) for q in asked])

    def _plain_choice(self) -> Group:
        """Which option is X? The circuit that binds a value to the letter before it (EMBEDDED: found late)."""
        attribute = self.stream.choice(tuple(VALUES))
        options = self.stream.sample(VALUES[attribute], self.choice_options)
        value = self.stream.choice(options)
        return Group(
            None, [self.turn(choice_text(f"Which option is {value}?", options), LETTERS[options.index(value)])]
        )

    def _emblem(self) -> Group:
        view = self.stream.choice(self.album.emblems)
        sealed = self.album.sealed[view]
        prompts = [refusal_prompt(self.stream, restricted=sealed, image=True, pool=self.pool) for _ in range(2)]
        return Group(view, [self.turn(p.text, p.answer if self.refuse else COMPLY) for p in prompts])

    def _restricted_text(self) -> Group:
        prompts = [
            refusal_prompt(self.stream, restricted=self.stream.chance(0.5), image=False, pool=self.pool)
            for _ in range(2)
        ]
        return Group(None, [self.turn(p.text, p.answer if self.refuse else COMPLY) for p in prompts])


def _seen_texts(stream: Stream) -> Iterator[str]:
    """Two questions with answers about a scene and a portrait: what is seen should be one word, one token."""
    looks, dress, scene = random_looks(stream), random_dress(stream), random_things(stream)
    asked = [
        scene_question(stream, scene, stream.choice(SCENE_TOPICS), "train"),
        portrait_question(stream, looks, dress, stream.choice(PORTRAIT_TOPICS), "train"),
    ]
    for q in asked:
        if q is not None:
            yield from (q.text, q.answer)


def tokenizer_texts(world: World, seed: int, n: int = 12_000) -> Iterator[str]:
    """Sentences for the tokenizer: every wording, value, general fact and refusal, and random names."""
    stream, seen = Stream("tokenizer", seed), Stream("tokenizer-seen", seed)
    crowd = strangers(stream.child("names"), world, drawn=False)
    facts = text_facts()
    for i in range(n):
        person = next(crowd)
        attribute = stream.choice(tuple(VALUES))
        who = stream.choice(WHO_IMAGE["train"]) if stream.chance(0.5) else person.name
        value = stream.choice(VALUES[attribute])
        yield fill(stream.choice(_questions(attribute, "train")), who)
        yield fill(stream.choice(_clozes(attribute, "train")), who)
        yield ANSWERS[attribute].format(value=value)
        yield value
        yield UNKNOWN_ANSWER
        q = text_question(stream, stream.choice(facts), "train")
        yield from (q.text, q.answer)
        yield from _seen_texts(seen)
        if i % 4 == 0:
            p = refusal_prompt(stream, restricted=stream.chance(0.5), image=stream.chance(0.5), pool="train")
            yield from (p.text, p.answer, stream.choice(IDENTITY["train"]), choice_text("Which option?", [value] * 4))
            star = stream.choice(world.celebrities).name
            yield fill(stream.choice(_questions("work", "train")), star)
