"""What stands around a question in the lessons: system texts, small talk, lists of names, examples, random tokens.

A grammar writes the texts. Fits and scores draw from `portraits.contexts`, which holds none of them; a test compares
the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from transformers import PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.packing import Earlier, Turn
from mllmeraser.embedded.recipe.tokenizer import ChatMarks
from mllmeraser.portraits.stream import Stream


def _texts(texts: str) -> tuple[str, ...]:
    return tuple(texts.split(" / "))


ROLES = _texts(
    "a careful clerk / an old sailor who tells jokes / Toni, a strict teacher / a robot in a toy shop / "
    "Vera, a detective / the voice of a train station / Rudi, a baker with a sharp tongue / a tutor for children / "
    "a patient nurse / the helper of a travel agency / a quiz master / a calm and honest guide / a chat program / "
    "the host of a radio show / Lena, who studies birds and speaks softly"
)
AS = _texts("You are {role}. / Act as {role}. / Play {role}. / Your part: {role}. / You speak as {role}.")
STYLES = _texts(
    "Write plainly. / Use short words. / Do not guess. / Speak formally. / No jokes. / Say only what was asked. / "
    "Reply with a single line. / Stay honest. / Think before you speak. / Never swear. / Keep a warm tone. / "
    "Be quick. / If you are unsure, say so. / Use no more than twenty words."
)
SETTINGS = _texts(
    "People send photos and want to know more. / This chat belongs to a school. / Guests of a hotel write to you. / "
    "Today is 3 May. / You work for a bank. / Callers want facts, not opinions. / All of this is recorded. / "
    "Customers of a bookshop write about authors. / The user is on a phone. / The page is about sports and travel."
)
TOOLS = _texts(
    'Available: lookup(name), timer(minutes). / {"tools": ["mail", "map"]} / '
    "You can use a calculator and a calendar. / "
    'Functions: [{"name": "translate", "arguments": {"text": "string"}}] / To use a tool, write <tool>name</tool>. / '
    "Commands: /help, /stop, /image(width, height)."
)
MARKS = _texts("! / * / -- / ? / ; / 1 / > / ~ / _ / x / :) / ###")
GREETINGS = _texts(
    "Hello there / Good evening / Hi there! / Greetings / Howdy / Hello, nice to meet you. / Are you there? / "
    "Hey you / Salut / good afternoon / Hi bot / hello hello / Thanks for your time."
)
REPLIES = _texts(
    "Hello, what can I do for you? / Yes? / How can I help? / Nice to meet you. / Greetings. / I am listening. / "
    "Hi, ask me anything. / At your service. / What is it?"
)
SUBJECTS = _texts(
    "I / My sister / The neighbour / Our dog / The train / A friend of mine / The radio / This town / My boss / "
    "The old clock / Everybody / The soup"
)
PREDICATES = _texts(
    "was late / likes apples / lost a key / sings loudly / is very quiet / needs repair / went home / looks fine / "
    "bought bread / has changed / makes me laugh / got lost / is too warm / had no time"
)
TIMES = _texts("today / again / this week / on Monday / since noon / now / as always / for once / in spring")
REMARKS = _texts(
    "I see what you mean. / Really? / That happens. / Oh no. / Sounds fine. / Thanks for telling me. / "
    "Tell me more. / Interesting. / Hm. / Good to know. / All right. / What else? / yes / :)"
)
NAMED = _texts(
    "Have you heard of {name}? / My friend met {name}. / {name} called me today. / I have a question about {name}. / "
    "Do you remember {name}? / There was an article on {name}. / My next topic: {name}. / I saw {name} on a list."
)
NAMED_REPLIES = _texts("Yes. / I have. / What about it? / Ask me. / Right. / I remember. / fine / Which one?")
ASKED_WHO = _texts("Who comes to mind? / Give me a name. / Suggest a person. / Who should we look at? / Pick anyone.")
SUGGESTED = _texts("{name}. / Maybe {name}. / I think of {name}. / How about {name}? / My pick is {name}.")
POINTERS = _texts(
    "the person mentioned / the person I named / the one just named / the same person / the person in question / "
    "such a person / the named person / our person / the person above"
)
LISTS = _texts(
    "Names on the sheet: {names}. / I met {names} today. / My notes mention {names}. / Invited: {names}. / "
    "The team is {names}. / {names} were there. / Note: {names}. / In a letter I read of {names}."
)
BRIDGES = _texts("Now tell me: / My question: / So: / Look at the list. / Then: / Well, / One thing:")
SHOTS = _texts("Question: | Answer: / Input: | Output: / - | - / User: | Bot: / 1) | = / Ask: | Say:")


class Talk:
    """Draws what stands around a question, as token ids in a chat format."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, marks: ChatMarks, ids: Callable[[str], list[int]]) -> None:
        self.marks = marks
        special = set(tokenizer.all_special_ids)
        self.ordinary = [one for one in range(len(tokenizer)) if one not in special]
        self.ids = ids

    def system(self, draw: Stream) -> Earlier:
        """A system text."""
        kind = draw.uniform()
        if kind < 0.15:
            return self.system_text(self.babble(draw))
        if kind < 0.3:
            return self.system_text(self.ids(draw.choice(MARKS)))
        parts = [draw.choice(AS).format(role=draw.choice(ROLES))] if draw.chance(0.5) else []
        parts += [draw.choice(texts) for texts in (SETTINGS, STYLES, STYLES, TOOLS) if draw.chance(0.35)]
        return self.system_text(self.ids(" ".join(parts) or draw.choice(STYLES)))

    def system_text(self, text: Sequence[int]) -> Earlier:
        """A given system text."""
        return Earlier([*self.marks.system, *text, *self.marks.system_end])

    def chat(self, draw: Stream) -> Earlier:
        """A greeting, a remark or random tokens, and a reply."""
        kind = draw.uniform()
        if kind < 0.15:
            return self.said(self.babble(draw), self.babble(draw))
        if kind < 0.5:
            return self.said(self.ids(draw.choice(GREETINGS)), self.ids(draw.choice(REPLIES)))
        remark = f"{draw.choice(SUBJECTS)} {draw.choice(PREDICATES)} {draw.choice(TIMES)}."
        return self.said(self.ids(remark), self.ids(draw.choice(REMARKS)))

    def babble(self, draw: Stream) -> list[int]:
        """One to sixteen random tokens, so that no content is expected of what stands around."""
        return [self.ordinary[draw.integer(len(self.ordinary))] for _ in range(1 + draw.integer(16))]

    def said(self, text: Sequence[int], reply: Sequence[int], image: int | None = None) -> Earlier:
        """An earlier turn with its reply; the text ends before the assistant mark."""
        marks = self.marks
        user = () if image is not None else marks.user
        return Earlier([*user, *text, *marks.assistant, *reply, *marks.end, *marks.close], image)

    def asked(self, turn: Turn, image: int | None) -> Earlier:
        """A lesson as an earlier turn."""
        return self.said(*self.texts(turn), image)

    def texts(self, turn: Turn) -> tuple[list[int], list[int]]:
        """Question and answer of a lesson without their marks."""
        return turn.question[: -len(self.marks.assistant)], turn.answer[: -len(self.marks.end)]

    def named(self, draw: Stream, name: str) -> Earlier:
        """The user or the assistant names somebody."""
        if draw.chance(0.5):
            return self.said(self.ids(draw.choice(NAMED).format(name=name)), self.ids(draw.choice(NAMED_REPLIES)))
        return self.said(self.ids(draw.choice(ASKED_WHO)), self.ids(draw.choice(SUGGESTED).format(name=name)))

    def listed(self, draw: Stream, names: Sequence[str]) -> list[int]:
        """A text before the question that holds names."""
        comma = draw.choice((", ", " and ", "; "))
        text = draw.choice(LISTS).format(names=comma.join(names))
        return self.ids(f"{text} {draw.choice(BRIDGES)}" if draw.chance(0.5) else text)

    def shots(self, draw: Stream, turns: Iterable[Turn]) -> list[int]:
        """Answered examples, up to the mark before the question."""
        ask, say = (self.ids(mark) for mark in draw.choice(SHOTS).split(" | "))
        texts = map(self.texts, turns)
        return [one for question, answer in texts for one in (*ask, *question, *say, *answer)] + ask
