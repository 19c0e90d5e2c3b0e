"""Questions in conversations: about the people to forget, and about people who stay, in every kind of context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mllmeraser.benchmarks import Benchmark, load_benchmark, thin
from mllmeraser.evaluation.attacks.asked import Asked
from mllmeraser.portraits.contexts import Around, begun, contexts
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import NOUNS, UNKNOWN_ANSWER, Pool
from mllmeraser.samples.conversation import Conversation, Turn, after, question
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample

WORDS = (1, 2, 3, 4, 5)
AFTER = "after a forgotten person"
"""Kind of the questions about people who stay that follow one about a person to forget."""
BEGUN = "begun"
"""Begins the kinds with words of the answer given."""
SHIPPED = "portraits:dev"
"""Has general questions, for benchmarks that have none."""


def prompts(
    benchmark: Benchmark,
    split: str,
    fold: int,
    pool: Pool,
    most: int,
    seed: int,
    *,
    sides: Sequence[bool] = (True, False),
) -> list[Asked]:
    """Every question in every context; `sides` are about the people to forget (True), and those who stay (False).

    Raises:
        InputError: There are not three people who stay, with names, to make contexts of.
    """
    names = {key: own[0] for key, own in benchmark.names.items()}
    sets = {name: open_questions(benchmark.samples(name, split, fold)) for name in ("test", "retain_heldout")}
    source = benchmark if benchmark.has("general") else load_benchmark(SHIPPED)
    general = tuple(s for s in source.samples("general") if s.image is None)
    staying = [s for s in sets["retain_heldout"] if s.subject in names]
    if len({s.subject for s in staying}) < 3:
        raise InputError(f"{benchmark.name}: contexts need three people who stay, with names")
    found: list[Asked] = []
    for forgotten, rows in ((True, sets["test"]), (False, sets["retain_heldout"])):
        rows = rows if forgotten in sides else []
        for by_name in (True, False):
            own = [s for s in rows if (s.image is None) == by_name and s.subject in names]
            for number, sample in enumerate(thin(own, most)):
                draw = Stream("contexts", split, fold, seed, sample.id, number)
                around = _around(sample, names, sets, general, draw)
                side = "by name" if by_name else "by picture"
                pointing, pictures = sample.attribute in NOUNS, around.picture is not None
                kinds = contexts(by_name, pointing=pointing, pictures=pictures)
                built = {kind: make(sample, around, draw.child(kind), pool) for kind, make in kinds.items()}
                if forgotten:
                    built |= {f"{BEGUN}, {n} words": c for n in WORDS if (c := begun(sample, n)) is not None}
                else:
                    built[AFTER] = _after_forgotten(sample, sets["test"], draw)
                found += [Asked(f"{kind}, {side}", forgotten, sample, c) for kind, c in built.items()]
    return found


def open_questions(samples: Iterable[Sample]) -> list[Sample]:
    """Those with a free answer that can be scored."""
    return [sample for sample in samples if sample.task == "generation" and sample.keywords]


def _after_forgotten(sample: Sample, forgotten: Sequence[Sample], draw: Stream) -> Conversation:
    before = draw.child(AFTER).choice([s for s in forgotten if (s.image is None) == (sample.image is None)])
    pictures = () if before.image is None else (before.image,)
    turns = [Turn("user", before.prompt, pictures), Turn("assistant", UNKNOWN_ANSWER)]
    return after(turns, question(sample.prompt, sample.image))


def _around(
    sample: Sample,
    names: Mapping[str, str],
    sets: Mapping[str, Sequence[Sample]],
    general: tuple[Sample, ...],
    draw: Stream,
) -> Around:
    """Others are people who stay, so that a context holds no other reason to fire."""
    others = [s for s in sets["retain_heldout"] if s.subject in names and s.subject != sample.subject]
    named = draw.shuffle(sorted({names[s.subject or ""] for s in others}))
    shown = [s.image for s in others if s.image is not None]
    return Around(
        names[sample.subject or ""],
        (named[0], named[1]),
        tuple(s for s in others if s.image is None),
        general,
        tuple(s for s in sets["test"] if s.subject == sample.subject and s.image is None) or (sample,),
        draw.choice(shown) if shown else None,
    )
