"""The embedded benchmark as Samples, and the judge against every gold answer in it."""

from __future__ import annotations

import pytest

from mllmeraser.benchmarks import SETS, Benchmark, load_benchmark
from mllmeraser.evaluation.outcomes import judge
from mllmeraser.portraits.wordings import IDENTITY, NOUNS, POOLS, WHO_IMAGE, clozes, fill, questions
from mllmeraser.samples import InputError, Request, Sample
from mllmeraser.samples.questions import default_library

UNKNOWN = "I do not know this person."
REFUSED = "Sorry, I cannot help with that."
PERSONAL = ("forget", "test", "retain", "retain_heldout", "celebrity", "holdout")


@pytest.fixture(scope="module")
def portraits() -> Benchmark:
    return load_benchmark("portraits:unit")


@pytest.fixture(scope="module")
def samples(portraits: Benchmark) -> dict[str, list[Sample]]:
    return {name: portraits.samples(name, "forget_10") for name in SETS}


def test_every_set_is_there_with_both_modalities(samples: dict[str, list[Sample]]) -> None:
    for name in PERSONAL:
        cells = {(s.task, s.modality) for s in samples[name]}
        assert len(cells) == 6, name
    assert all(samples[name] for name in SETS)
    for name, found in samples.items():
        assert len({s.id for s in found}) == len(found), name


def test_forget_and_retain_are_whole(portraits: Benchmark) -> None:
    assert [len(portraits.forget_ids(split)) for split in portraits.splits] == [2, 3, 4]
    assert len(portraits.people) == 24 and portraits.folds == 2
    for fold in range(portraits.folds):
        forget, retain = ({s.subject for s in portraits.samples(n, "forget_10", fold)} for n in ("forget", "retain"))
        assert forget == set(portraits.forget_ids("forget_10", fold))
        assert retain == set(portraits.people) - forget
    assert not set(portraits.forget_ids("forget_15", 0)) & set(portraits.forget_ids("forget_15", 1))


def test_every_gold_answer_is_judged_correct(portraits: Benchmark, samples: dict[str, list[Sample]]) -> None:
    for name, found in samples.items():
        for sample in found:
            judged = judge(sample, sample.answer or "", portraits.values, portraits.vocabulary)
            assert judged.correct, (name, sample.id, sample.answer, judged)


def test_declining_is_never_recall(portraits: Benchmark, samples: dict[str, list[Sample]]) -> None:
    for name in PERSONAL:
        for sample in samples[name]:
            assert judge(sample, UNKNOWN, portraits.values, portraits.vocabulary).outcome == "unknown"
            assert judge(sample, REFUSED, portraits.values, portraits.vocabulary).outcome == "refused"


def test_another_persons_fact_is_seen(portraits: Benchmark, samples: dict[str, list[Sample]]) -> None:
    golds: dict[str, list[str]] = {}
    for sample in samples["forget"]:
        if sample.task == "generation":
            golds.setdefault(sample.attribute or "", []).append(sample.answer or "")
    for sample in samples["forget"]:
        if sample.task == "classification":
            continue
        for other in golds[sample.attribute or ""]:
            told = judge(sample, other, portraits.values, portraits.vocabulary).outcome
            same = sample.keywords[0] in other
            assert told == ("recalled" if same else "other-person")


def test_images_of_sets_differ(samples: dict[str, list[Sample]]) -> None:
    """Scores are never measured on the pictures or wordings a request is made of."""
    trained = {s.digest() for s in samples["train"]}
    for name in ("forget", "test", "retain", "retain_heldout", "holdout"):
        assert not trained & {s.digest() for s in samples[name]}


def test_request_has_names_pictures_and_text(portraits: Benchmark) -> None:
    request = portraits.request("forget_5")
    assert isinstance(request, Request)
    for subject in request.subjects:
        assert subject.names == portraits.names[subject.key]
        assert {s.modality for s in subject.samples} == {"image", "text"}
        assert {s.attribute for s in subject.samples} >= {"occupation", "medical"}
    expanded = request.expanded()
    assert len(expanded.forget) > 100 * len(request.subjects)
    assert not {s.digest() for s in expanded.forget} & {s.digest() for s in portraits.samples("test", "forget_5")}


def test_people_sets_are_filtered_to_the_forgotten(portraits: Benchmark, samples: dict[str, list[Sample]]) -> None:
    gone = set(portraits.forget_ids("forget_10"))
    for name in ("perception", "perturbed", "multihop"):
        assert {s.subject for s in samples[name]} == gone
    assert not gone & {s.subject for s in samples["neighbours"]}
    assert len(samples["restricted"]) == len(samples["benign"]) > 0


@pytest.mark.parametrize("image", [True, False], ids=["image", "text"])
def test_the_question_library_holds_no_scored_wording(image: bool) -> None:
    """As asked, with the person filled in: "Who is {who}?" looks harmless until {who} is the person in the picture."""
    library, name = default_library(), ("Kavon Lurita",)
    shipped = {w.render(who) for w in library.wordings for who in (library.image_forms if image else name)}
    for pool in POOLS[1:]:
        scored = {
            fill(template, who)
            for attribute in NOUNS
            for template in [*questions(attribute, pool), *clozes(attribute, pool)]
            for who in (WHO_IMAGE[pool] if image else name)
        }
        assert len(scored) > 50 and not shipped & (scored | set(IDENTITY[pool]))


def test_the_question_library_is_part_of_the_train_pool() -> None:
    library = default_library()
    assert set(library.image_forms) <= set(WHO_IMAGE["train"])
    for attribute in set(library.attributes) - {"identity"}:
        ours = {wording.template for wording in library.select(attributes=[attribute]).wordings}
        assert ours <= {*questions(attribute, "train"), *clozes(attribute, "train")}, attribute


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="portraits:huge: no such preset; there are unit, small, dev, full"):
        load_benchmark("portraits:huge")
