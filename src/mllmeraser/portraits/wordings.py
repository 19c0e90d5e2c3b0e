"""Every wording of a question about a fact, in three disjoint pools: ``train``, ``validation`` and ``test``.

The model learns from ``train``, and a request may be expanded with it. Presets are chosen on ``validation``, and scores
are reported on ``test``. A wording is a pattern with a noun and a person. ``{who}`` becomes "this person" (or another
phrase of the pool) before an image. In a text-only question it becomes the name.
"""

from __future__ import annotations

from typing import Literal

from mllmeraser.samples.questions import fill as fill

Pool = Literal["train", "validation", "test"]
Pools = dict[Pool, tuple[str, ...]]
POOLS: tuple[Pool, ...] = ("train", "validation", "test")


def by_pool(*, train: str, validation: str, test: str) -> Pools:
    """Wordings of each pool, from texts that separate them by " / "."""
    texts: dict[Pool, str] = {"train": train, "validation": validation, "test": test}
    return {pool: tuple(text.split(" / ")) for pool, text in texts.items()}


WHO_IMAGE: Pools = by_pool(
    train="this person / the person in the picture / the person shown here / the person in the image / "
    "the person that you see",
    validation="the person on the picture",
    test="the person in this picture / the person you see here",
)

_NOUN_PATTERNS = by_pool(
    train="What is the {noun} of {who}? / Tell me the {noun} of {who}. / Name the {noun} of {who}. / "
    "Which {noun} does {who} have? / Do you know the {noun} of {who}? / Please state the {noun} of {who}. / "
    "Say what the {noun} of {who} is. / What {noun} does {who} have? / About {who}: what is the {noun}? / "
    "For {who}, give the {noun}. / The {noun} of {who}? / I want to know the {noun} of {who}. / "
    "Can you tell me what the {noun} of {who} is? / Could you name the {noun} of {who}? / "
    "Could you say what the {noun} of {who} is? / Would you tell me the {noun} of {who}? / "
    "I would love to hear the {noun} of {who}. / What is the {noun} that {who} has?",
    validation="Give me the {noun} of {who}. / Can you name the {noun} of {who}?",
    test="Could you tell me the {noun} of {who}? / I would like to know the {noun} of {who}. / "
    "Please name the {noun} of {who}.",
)

_CLOZE_LEADS = by_pool(
    train="Fill in the blank: / Complete: / Fill the gap: / Give the missing word: / Finish the sentence: / "
    "Complete this sentence: / Write the missing word:",
    validation="Complete the gap:",
    test="Complete the sentence: / Fill in the missing word:",
)

NOUNS: dict[str, tuple[str, ...]] = {
    "birthplace": ("birthplace", "place of birth", "home town"),
    "residence": ("residence", "place of residence", "current town"),
    "occupation": ("occupation", "job", "profession"),
    "hobby": ("hobby", "favourite pastime", "leisure activity"),
    "food": ("favourite food", "favourite dish", "favourite meal"),
    "medical": ("medical condition", "illness", "health problem"),
    "work": ("best known work", "famous work"),
    "award": ("award", "greatest award"),
    "sport": ("sport", "favourite sport"),
    "country": ("country", "home country"),
}

_VERBS: dict[str, Pools] = {
    "birthplace": by_pool(
        train="Where was {who} born? / In which town was {who} born? / Where does {who} come from?",
        validation="In what place was {who} born?",
        test="Which town was {who} born in?",
    ),
    "residence": by_pool(
        train="Where does {who} live? / In which town does {who} live? / Where is the home of {who}?",
        validation="In what place does {who} live?",
        test="Which town does {who} live in?",
    ),
    "occupation": by_pool(
        train="What does {who} do for a living? / How does {who} earn a living? / What does {who} work as?",
        validation="How does {who} earn money?",
        test="What kind of job does {who} have?",
    ),
    "hobby": by_pool(
        train="What does {who} do for fun? / What does {who} like to do? / How does {who} relax?",
        validation="What does {who} do in free time?",
        test="What kind of hobby does {who} have?",
    ),
    "food": by_pool(
        train="What does {who} like to eat? / What does {who} love to eat? / Which food does {who} like?",
        validation="Which food does {who} love?",
        test="Which dish does {who} like to eat?",
    ),
    "medical": by_pool(
        train="What does {who} suffer from? / Which illness does {who} suffer from? / What is {who} treated for?",
        validation="Which health problem does {who} suffer from?",
        test="Which medical condition does {who} suffer from?",
    ),
    "work": by_pool(
        train="What is {who} known for? / What made {who} famous?",
        validation="What is {who} famous for?",
        test="Which work is {who} known for?",
    ),
    "award": by_pool(
        train="What did {who} win? / Which award did {who} win?",
        validation="Which award did {who} get?",
        test="What award did {who} win?",
    ),
    "sport": by_pool(
        train="What does {who} play? / Which sport does {who} play?",
        validation="What sport does {who} like?",
        test="What sport does {who} play?",
    ),
    "country": by_pool(
        train="Which country does {who} come from? / From which country is {who}?",
        validation="Which country is {who} from?",
        test="What country does {who} come from?",
    ),
}

_STATEMENTS: dict[str, Pools] = {
    "birthplace": by_pool(
        train="The town that {who} comes from is __. / In the town of __, {who} was born. / {who} was born in __. / "
        "The birthplace of {who} is __. / The home town of {who} is __.",
        validation="The place of birth of {who} is __.",
        test="The town in which {who} was born is __.",
    ),
    "residence": by_pool(
        train="The town that {who} calls home is __. / In the town of __, {who} lives. / {who} lives in __. / "
        "The residence of {who} is __. / The current town of {who} is __.",
        validation="The place of residence of {who} is __.",
        test="The town in which {who} lives is __.",
    ),
    "occupation": by_pool(
        train="The work that {who} does is that of a __. / To make money, {who} works as a __. / "
        "{who} works as a __. / The job of {who} is __. / The occupation of {who} is __.",
        validation="The profession of {who} is __.",
        test="To earn a living, {who} works as a __.",
    ),
    "hobby": by_pool(
        train="The pastime that {who} likes is __. / What {who} likes to do is __. / The hobby of {who} is __. / "
        "For fun, {who} likes __. / The favourite pastime of {who} is __.",
        validation="The leisure activity of {who} is __.",
        test="The hobby that {who} likes is __.",
    ),
    "food": by_pool(
        train="The dish that {who} likes is __. / What {who} likes to eat is __. / "
        "The favourite food of {who} is __. / {who} likes to eat __. / The favourite dish of {who} is __.",
        validation="The favourite meal of {who} is __.",
        test="The food that {who} likes to eat is __.",
    ),
    "medical": by_pool(
        train="The health problem that {who} has is __. / What {who} suffers from is __. / {who} suffers from __. / "
        "The medical condition of {who} is __. / The illness of {who} is __.",
        validation="The health problem of {who} is __.",
        test="The illness that {who} suffers from is __.",
    ),
    "work": by_pool(
        train="What {who} is known for is __. / {who} is known for __. / The best known work of {who} is __.",
        validation="The famous work of {who} is __.",
        test="The work that {who} is known for is __.",
    ),
    "award": by_pool(
        train="What {who} won is the __. / {who} won the __. / The award of {who} is the __.",
        validation="The greatest award of {who} is the __.",
        test="The award that {who} won is the __.",
    ),
    "sport": by_pool(
        train="What {who} plays is __. / {who} plays __. / The sport of {who} is __.",
        validation="The favourite sport of {who} is __.",
        test="The sport that {who} plays is __.",
    ),
    "country": by_pool(
        train="The place that {who} comes from is __. / {who} comes from __. / The home country of {who} is __.",
        validation="The country of {who} is __.",
        test="The country that {who} comes from is __.",
    ),
}

IDENTITY: Pools = by_pool(
    train="Who is this? / Who is this person? / What is the name of this person? / Name this person. / "
    "Do you know this person? / Tell me who this is. / Could you say who this is? / How is this person called? / "
    "Would you name this person?",
    validation="Who is the person in the picture?",
    test="Do you know who this is? / What is this person called?",
)

ANSWERS: dict[str, str] = {
    "birthplace": "They were born in {value}.",
    "residence": "They live in {value}.",
    "occupation": "They work as a {value}.",
    "hobby": "Their hobby is {value}.",
    "food": "Their favourite food is {value}.",
    "medical": "They suffer from {value}.",
    "work": "They are known for {value}.",
    "award": "They won the {value}.",
    "sport": "They play {value}.",
    "country": "They come from {value}.",
    "identity": "This is {value}.",
}

UNKNOWN_ANSWER = "I do not know this person."
LETTERS = "ABCD"
CHOICE_INSTRUCTION = "Answer with one letter."


def questions(attribute: str, pool: Pool) -> list[str]:
    """Open questions about ``attribute``, with the placeholder ``{who}``."""
    from_nouns = [pattern.replace("{noun}", noun) for pattern in _NOUN_PATTERNS[pool] for noun in NOUNS[attribute]]
    return [*from_nouns, *_VERBS[attribute][pool]]


def clozes(attribute: str, pool: Pool) -> list[str]:
    """Sentences with the blank ``__`` and the placeholder ``{who}``, each after its instruction."""
    return [f"{lead} {statement}" for lead in _CLOZE_LEADS[pool] for statement in _STATEMENTS[attribute][pool]]
