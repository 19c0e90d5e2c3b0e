"""Scene concepts: pictures that show them, questions with them as the answer, and what stands beside them."""

from __future__ import annotations

import numpy as np
import pytest

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.knowledge.concepts import CONCEPTS, Concept, asked_scenes, scenes_of
from mllmeraser.knowledge.scene_rows import ORDER, also_about
from mllmeraser.portraits.general import Question
from mllmeraser.portraits.scenes import PAINTS, Scene, Thing
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.names import holds_name

CIRCLE, RED = (next(concept for concept in CONCEPTS if concept.name == name) for name in ("circle", "red"))
RETAINED = ("retain_heldout", "neighbours", "general", "retain", "train_retain")


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    """The preset `concepts`."""
    return load_benchmark("knowledge:concepts")


def test_a_concept_is_shown_named_or_asked_for() -> None:
    scene = Scene((Thing("circle", "red", "small", 0.3, 0.3),))
    assert CIRCLE.shown(scene)
    assert not Concept("square", "shape").shown(scene)
    assert RED.concerns(Question("Which shape is red?", "It is a circle.", ("circle",), "shape"))
    assert CIRCLE.concerns(Question("Which shape is red?", "It is a circle.", ("circle",), "shape"))
    assert not CIRCLE.concerns(Question("Which shape is blue?", "It is a ring.", ("ring",), "shape"))


def test_the_picture_shows_what_its_question_asks_for() -> None:
    for picture, question in scenes_of(RED, Stream("pictures"), 6, "train"):
        assert question.keywords == ("red",)
        assert (np.abs(picture.astype(float) - PAINTS["red"]).max(-1) < 2).sum() > 20, question.text


def test_scenes_depend_on_their_stream_alone() -> None:
    one, same, other = (
        [(picture.tobytes(), question) for picture, question in scenes_of(CIRCLE, Stream(name), 3, "test")]
        for name in ("a", "a", "b")
    )
    assert one == same
    assert one != other


def test_only_wanted_scenes_are_drawn() -> None:
    drawn = list(asked_scenes(Stream("wanted"), 5, "count", "train", lambda scene, _: len(scene.objects) == 3))
    assert [question.keywords for _, question in drawn] == [("three",)] * 5


@pytest.mark.parametrize("fold", [0, 1])
def test_a_forgotten_concept_is_the_answer_and_concerns_no_other_set(benchmark: Benchmark, fold: int) -> None:
    (key,) = benchmark.forget_ids("forget_1", fold)
    assert key == ORDER[fold]
    for name in ("forget", "test", "train_forget"):
        samples = benchmark.samples(name, "forget_1", fold)
        assert len(samples) >= 6
        assert all(sample.image is not None and sample.subject == key for sample in samples), name
        assert all(key in (sample.answer or "") and not holds_name(sample.question, key) for sample in samples), name
    for name in RETAINED:
        for sample in benchmark.samples(name, "forget_1", fold):
            assert not holds_name(sample.question, key), (name, sample.question)
            assert key not in sample.keywords, (name, sample.question)


def test_neighbours_stand_beside_the_forgotten_one(benchmark: Benchmark) -> None:
    kind = {concept.key: concept.kind for concept in CONCEPTS}
    for fold, key in enumerate(ORDER):
        near = benchmark.samples("neighbours", "forget_1", fold)
        assert {sample.subject for sample in near} == {
            other for other in kind if kind[other] == kind[key] and other != key
        }
    paint, near = PAINTS["red"], benchmark.samples("neighbours", "forget_1", ORDER.index("red"))
    for sample in near:
        assert sample.image is not None
        pixels = np.asarray(sample.image, dtype=float)
        assert (np.abs(pixels - paint).max(-1) < 2).sum() > 20, "the red thing is in the picture"


def test_no_picture_of_the_training_form_is_scored(benchmark: Benchmark) -> None:
    trained = {sample.image.tobytes() for sample in benchmark.samples("train", "forget_1") if sample.image}
    scored = [s for name in ("test", *RETAINED[:4]) for s in benchmark.samples(name, "forget_1")]
    assert not trained & {sample.image.tobytes() for sample in scored if sample.image}


def test_a_question_is_also_about_what_it_names() -> None:
    asked = Question("Which shape is red?", "It is a circle.", ("circle",), "shape")
    assert also_about(asked, CIRCLE) == ["red"]
    assert also_about(asked) == ["circle", "red"]
