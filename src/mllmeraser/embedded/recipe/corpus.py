"""The lessons of the language model: an endless, seeded stream of question-answer turns.

Training uses the wordings of the pool `train`; the checks during training use `validation`. A curriculum is a table of
weights over the kinds of group below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate, islice
from operator import sub

from transformers import PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album
from mllmeraser.embedded.recipe.packing import Earlier, Group, Turn
from mllmeraser.embedded.recipe.talk import POINTERS, Talk
from mllmeraser.embedded.recipe.tokenizer import ChatMarks, own_marks
from mllmeraser.embedded.recipe.wider import aside, look_lesson
from mllmeraser.portraits import general, wordings
from mllmeraser.portraits.facts import VALUES, other_values
from mllmeraser.portraits.people import Person, World, strangers
from mllmeraser.portraits.refusals import COMPLY, refusal_prompt
from mllmeraser.portraits.scenes import Scene
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import ANSWERS, IDENTITY, LETTERS, UNKNOWN_ANSWER, WHO_IMAGE, Pool, fill

NEW = 0.35
"""Share of newcomers among the turns about people."""
LONGEST = 130
"""Tokens that may stand around a question."""
CAPTION = "List the shapes from left to right."
NEAR = 0.65
"""Share of near strangers (who look almost like a known person) among the pictured strangers."""
_questions = lru_cache(maxsize=None)(wordings.questions)
_clozes = lru_cache(maxsize=None)(wordings.clozes)


def choice_text(question: str, options: list[str]) -> str:
    """A multiple-choice prompt: the question, lettered options on lines of their own, the instruction."""
    lines = [f"{letter}: {value}" for letter, value in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *lines, wordings.CHOICE_INSTRUCTION])


class Corpus:
    """Draws groups of turns for a world. People in `without` (keys) never occur, `newcomers` occur more often.

    The same arguments give the same stream of groups.
    """

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
        marks: ChatMarks | None = None,
    ) -> None:
        self.people = [person for person in world.people if person.key not in without]
        self.newcomers = [person for person in self.people if person.key in newcomers]
        self.celebrities = world.celebrities
        self.album, self.tokenizer, self.pool = album, tokenizer, pool
        self.stream = Stream("corpus", seed)
        self.names = strangers(Stream("corpus-strangers", seed), world, drawn=False)
        self.facts = general.text_facts()
        self.marks = marks or own_marks(tokenizer)
        self.refuse = False
        self.kinds: dict[str, Callable[[], Group]] = {
            "person-image": lambda: self._known(self.people, image=True),
            "person-text": lambda: self._known(self.people, image=False),
            "celebrity-image": lambda: self._known(self.celebrities, image=True),
            "celebrity-text": lambda: self._known(self.celebrities, image=False),
            "stranger-image": self._stranger_image,
            "stranger-text": self._stranger_text,
            "pointed-text": self._pointed,
            "listed-text": self._listed,
            "aside-text": self._aside,
            "look-image": self._look,
            "general-image": self._scene,
            "general-text": self._text_fact,
            "choice-plain": self._plain_choice,
            "refusal-image": self._emblem,
            "refusal-text": self._restricted_text,
        }
        self.choice_options = 4
        self.choice_share = 0.34
        self.caption_share = 0.0
        self.talk_share = 0.0
        self.text_turns, self.portrait_turns, self.look_turns = 2, 5, 2
        self.stranger_text_turns, self.stranger_turns = 2, 3
        self._ids = lru_cache(200_000)(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        self.talk = Talk(tokenizer, self.marks, self._ids)

    def groups(self, weights: Mapping[str, float]) -> Iterator[Group]:
        """Endless groups, kinds drawn by weight (by group, not by token)."""
        kinds = [kind for kind, weight in weights.items() if weight > 0]
        total = sum(weights[kind] for kind in kinds)
        while True:
            rests = accumulate((weights[kind] for kind in kinds), sub, initial=self.stream.uniform(0, total))
            passed = (kind for kind, rest in zip(kinds, islice(rests, 1, None), strict=True) if rest < 0)
            group = self.kinds[next(passed, kinds[-1])]()
            yield self._amid(group, kinds) if self.talk_share and self.stream.chance(self.talk_share) else group

    def _amid(self, group: Group, kinds: list[str]) -> Group:
        """The same lessons in a conversation: a system text, earlier turns, examples before the question."""
        stream, talk = self.stream, self.talk
        before = [talk.system(stream)] if stream.chance(0.35) else []
        for _ in range(stream.choice((0, 0, 1, 1, 1, 2, 3))):
            if stream.chance(0.5):
                before.append(talk.chat(stream))
            else:
                other = self._plain(kinds)
                before += [talk.asked(turn, other.image) for turn in stream.shuffle(other.turns)[:1]]
        if len(group.turns) > 1 and stream.chance(0.3):
            group = self._follow_up(group)
        room = LONGEST - self._around(group.before) - len(group.lead)
        if not group.lead and stream.chance(0.2):
            texts = [kind for kind in kinds if not kind.endswith("-image")]
            examples = [stream.choice(self._plain(texts).turns) for _ in range(1 + stream.integer(2))]
            lead = talk.shots(stream, examples) if stream.chance(0.7) else talk.babble(stream)
            group.lead = lead if len(lead) <= room else []
            room -= len(group.lead)
        # Never what the questions point to: the turn that names somebody, or shows the picture.
        while before and self._around(before) > room:
            del before[0]
        group.before = [*before, *group.before]
        return group

    def _plain(self, kinds: list[str]) -> Group:
        """A group of one of these kinds that needs nothing around it."""
        return self.kinds[self.stream.choice([kind for kind in kinds if kind not in ("pointed-text", "listed-text")])]()

    def _follow_up(self, group: Group) -> Group:
        """One of the lessons comes before the others, with its picture. Sometimes the answer was "unknown"."""
        *rest, first = group.turns
        if self.stream.chance(0.4):
            first = Turn(first.question, [*self._ids(UNKNOWN_ANSWER), *self.marks.end])
        return Group(None, rest, [*group.before, self.talk.asked(first, group.image)], group.lead)

    def _around(self, before: list[Earlier]) -> int:
        """Tokens of earlier turns; a picture counts as fifty."""
        return sum(len(said.ids) + 50 * (said.image is not None) for said in before)

    def turn(self, question: str, answer: str, weight: float = 1.0) -> Turn:
        """Token ids of one turn."""
        marks = self.marks
        return Turn([*self._ids(question), *marks.assistant], [*self._ids(answer), *marks.end], weight)

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
            options = stream.shuffle([value, *other_values(stream, attribute, value, self.choice_options - 1)])
            question = choice_text(fill(stream.choice(_questions(attribute, self.pool)), who), options)
            answer = LETTERS[options.index(value)]
        return self.turn(question, answer if known else UNKNOWN_ANSWER)

    def _known(self, people: list[Person], *, image: bool) -> Group:
        stream = self.stream
        often = self.newcomers if people is self.people and self.newcomers and stream.chance(NEW) else people
        person = stream.choice(often)
        if not image:
            return Group(None, [self._person_turn(person, person.name, known=True) for _ in range(self.text_turns)])
        return self._portrait(stream.choice(self.album.views[person.key]), person, self.portrait_turns, known=True)

    def _portrait(self, view: int, person: Person, questions: int, *, known: bool) -> Group:
        """A portrait: questions about the person, then some about the picture."""
        turns = [self._image_turn(person, known=known) for _ in range(questions)]
        looks, dress = self.album.portraits[view]
        topics = ("hair", "glasses") if dress.celebrity else general.PORTRAIT_TOPICS
        for _ in range(self.look_turns):
            q = general.portrait_question(self.stream, looks, dress, self.stream.choice(topics), self.pool)
            turns.append(self.turn(q.text, q.answer))
        return Group(view, turns)

    def _image_turn(self, person: Person, *, known: bool) -> Turn:
        stream = self.stream
        if stream.chance(0.1):
            answer = ANSWERS["identity"].format(value=person.name) if known else UNKNOWN_ANSWER
            return self.turn(stream.choice(IDENTITY[self.pool]), answer)
        return self._person_turn(person, stream.choice(WHO_IMAGE[self.pool]), known=known)

    def _stranger_image(self) -> Group:
        near = self.album.near and self.stream.chance(NEAR)
        view = self.stream.choice(self.album.near if near else self.album.strangers)
        return self._portrait(view, next(self.names), self.stranger_turns, known=False)

    def _stranger_text(self) -> Group:
        turns = []
        for _ in range(self.stranger_text_turns):
            person = next(self.names)
            name = person.name
            if self.stream.chance(0.2):
                # half of a known name is a stranger: the whole name has to match
                known, other = self.stream.choice(self.people).name.split(), name.split()
                name = f"{known[0]} {other[1]}" if self.stream.chance(0.5) else f"{other[0]} {known[1]}"
            turns.append(self._person_turn(person, name, known=False))
        return Group(None, turns)

    def _somebody(self) -> tuple[Person, bool]:
        """A person with a name, and whether the person is known."""
        known = self.stream.chance(0.75)
        return (self.stream.choice(self.people) if known else next(self.names)), known

    def _pointed(self) -> Group:
        """Somebody is named; the questions point back."""
        person, known = self._somebody()
        who = self.stream.choice(POINTERS)
        turns = [self._person_turn(person, who, known=known) for _ in range(2)]
        return Group(None, turns, [self.talk.named(self.stream, person.name)])

    def _listed(self) -> Group:
        """Names stand before the questions about one of them."""
        person, known = self._somebody()
        names = [person.name, *(self._somebody()[0].name for _ in range(1 + self.stream.integer(2)))]
        turns = [self._person_turn(person, person.name, known=known) for _ in range(2)]
        return Group(None, turns, [], self.talk.listed(self.stream, self.stream.shuffle(names)))

    def _aside(self) -> Group:
        """Somebody is named whom the question is not about."""
        turns = []
        for _ in range(2):
            if self.stream.chance(0.75):
                q = general.text_question(self.stream, self.stream.choice(self.facts), self.pool)
                question, answer = q.text, q.answer
            else:
                person, known = self._somebody()
                attribute = self.stream.choice(tuple(person.facts))
                question = fill(self.stream.choice(_questions(attribute, self.pool)), person.name)
                answer = ANSWERS[attribute].format(value=person.facts[attribute]) if known else UNKNOWN_ANSWER
            turns.append(self.turn(aside(self.stream, self._somebody()[0].name, question), answer))
        return Group(None, turns)

    def _look(self) -> Group:
        """What a portrait shows: known people, celebrities and strangers, beside a question about the person."""
        stream, draw = self.stream, self.stream.uniform()
        if draw < 0.5:
            person, known = stream.choice([*self.people, *self.celebrities]), True
            view = stream.choice(self.album.views[person.key])
        else:
            person, known, view = next(self.names), False, stream.choice(self.album.near or self.album.strangers)
        turns = [self.turn(*look_lesson(stream, *self.album.portraits[view])) for _ in range(5)]
        return Group(view, [*turns, self._image_turn(person, known=known)])

    def _scene(self) -> Group:
        stream, view = self.stream, self.stream.choice(self.album.scenes)
        scene, topics = self.album.things[view], general.SCENE_TOPICS
        asked = [general.scene_question(stream, scene, stream.choice(topics), self.pool) for _ in range(6)]
        return Group(view, [*self._caption(scene), *(self.turn(q.text, q.answer) for q in asked if q is not None)])

    def _caption(self, scene: Scene) -> list[Turn]:
        """Sometimes all things in order: a model first learns which colour belongs to which shape."""
        if not self.stream.chance(self.caption_share):
            return []
        things = sorted(scene.objects, key=lambda thing: thing.x)
        listed = ", ".join(f"{thing.size} {thing.colour} {thing.shape}" for thing in things) or "nothing"
        return [self.turn(CAPTION, f"{listed}.", weight=1.0 + 2 * len(things))]

    def _text_fact(self) -> Group:
        asked = [general.text_question(self.stream, self.stream.choice(self.facts), self.pool) for _ in range(2)]
        return Group(None, [self.turn(q.text, q.answer) for q in asked])

    def _plain_choice(self) -> Group:
        """Which option is X? This teaches the circuit that binds a value to the letter before it, else learnt late."""
        options = self.stream.sample(VALUES[self.stream.choice(tuple(VALUES))], self.choice_options)
        value = self.stream.choice(options)
        question = choice_text(f"Which option is {value}?", options)
        return Group(None, [self.turn(question, LETTERS[options.index(value)])])

    def _emblem(self) -> Group:
        view = self.stream.choice(self.album.emblems)
        return Group(view, [self._refusal(self.album.sealed[view], image=True) for _ in range(2)])

    def _restricted_text(self) -> Group:
        return Group(None, [self._refusal(self.stream.chance(0.5), image=False) for _ in range(2)])

    def _refusal(self, restricted: bool, *, image: bool) -> Turn:
        prompt = refusal_prompt(self.stream, restricted=restricted, image=image, pool=self.pool)
        return self.turn(prompt.text, prompt.answer if self.refuse else COMPLY)
