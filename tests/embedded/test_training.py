"""The training loop of the recipe: what is taught, what a twin never meets, and going on after an interruption."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, Counts, tower_album, world_album
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.check import exact, exact_by_kind
from mllmeraser.embedded.recipe.corpus import Corpus
from mllmeraser.embedded.recipe.loop import Phase, Trainer
from mllmeraser.embedded.recipe.packing import Batch, Group, Turn
from mllmeraser.embedded.recipe.vision import load_trained, train_tower
from mllmeraser.portraits import World
from mllmeraser.portraits.refusals import COMPLY, REFUSALS

WEIGHTS = {"person-image": 0.3, "person-text": 0.4, "stranger-text": 0.3}
FIRST = Phase("first", 3, WEIGHTS, warmup=2, copy_share=0.5)
SECOND = Phase("second", 4, WEIGHTS, warmup=1, refuse=True)


@pytest.fixture(scope="module")
def album(world: World) -> Album:
    made = world_album(world, seed=0, counts=Counts(1, 3, 2, 6, 4))
    made.draw()
    return made


@pytest.fixture
def start(architecture: Architecture, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[[], Trainer]:
    """Makes trainers that keep their state in one folder, from the same random weights every time."""
    packer = architecture.packer(tokenizer, rows=1, length=128)
    return lambda: Trainer(architecture, architecture.build_model(tokenizer, 0), packer, tmp_path, seed=0)


def steps_made(made: Trainer) -> list[float]:
    """Learning rates of the steps, noted as they are made."""
    rates: list[float] = []
    step = made.optimizer.step
    made.optimizer.step = lambda: (rates.append(made.optimizer.parts[0].param_groups[-1]["lr"]), step())  # type: ignore
    return rates


def finite(made: Trainer) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in made.model.parameters())


def test_an_interrupted_run_goes_on_where_it_was_saved(
    world: World, tokenizer: PreTrainedTokenizerFast, album: Album, start: Callable[[], Trainer], tmp_path: Path
) -> None:
    def run(made: Trainer, phase: Phase, **options) -> None:
        corpus = Corpus(world, tokenizer, album, seed=0)
        made.run(phase, corpus, lambda n, note: None, save_every=2, **options)
        assert corpus.refuse == phase.refuse

    def stop() -> dict[str, float]:
        raise KeyboardInterrupt

    first = start()
    rates = steps_made(first)
    run(first, FIRST)
    with pytest.raises(KeyboardInterrupt):
        run(first, SECOND, check=stop, check_every=3)  # after the third step; the second was the last one saved
    assert len(rates) == 6 and json.loads((tmp_path / "second.json").read_text())["step"] == 2

    again = start()
    resumed = steps_made(again)
    run(again, FIRST)
    assert resumed == []  # a finished phase is loaded, not trained
    saved = {name: p.detach().clone() for name, p in again.parameters.items()}
    assert any(not torch.equal(p, first.parameters[name]) for name, p in saved.items())
    run(again, SECOND)
    assert resumed == [Trainer._rate(SECOND, step) for step in (2, 3)]
    assert finite(again) and json.loads((tmp_path / "second.json").read_text())["step"] == 4
    # a step without a picture does not touch the projector, hence the maximum
    assert max(int(again.optimizer.state(p).get("step", 0)) for p in again.parameters.values()) == 3 + 4

    finished = start()
    run(finished, SECOND)
    assert all(torch.equal(p, again.parameters[name]) for name, p in finished.parameters.items())


def test_training_moves_everything_but_the_tower(
    world: World, tokenizer: PreTrainedTokenizerFast, album: Album, start: Callable[[], Trainer]
) -> None:
    made = start()
    before = {name: p.detach().clone() for name, p in made.parameters.items()}
    corpus = Corpus(world, tokenizer, album, seed=0)
    made.run(Phase("short", 2, {"person-image": 1.0}, warmup=1), corpus, lambda n, note: None)
    assert 0 < len(made.frozen) < len(made.parameters)
    for name, p in made.parameters.items():
        assert torch.equal(p, before[name]) == (name in made.frozen), name


def test_the_tower_stage_teaches_the_tower_alone_and_only_once(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def draw() -> Album:
        album = tower_album(seed=0, faces=40, scenes=30, emblems=10)
        album.draw()
        return album

    def learn(album: Callable[[], Album]) -> dict[str, torch.Tensor]:
        model = architecture.build_model(tokenizer, 0)
        train_tower(
            architecture, architecture.tower(model), album, tmp_path, steps=2, seed=0, progress=lambda n, note: None
        )
        return {name: p.detach() for name, p in model.named_parameters()}

    before = dict(architecture.build_model(tokenizer, 0).named_parameters())
    after = learn(draw)
    unused = [name for name, p in after.items() if architecture.in_tower(name) and torch.equal(p, before[name])]
    assert all("post_layernorm" in name for name in unused)
    assert all(torch.equal(p, before[name]) for name, p in after.items() if not architecture.in_tower(name))
    assert {"skin", "identity", "shape"} < set(json.loads((tmp_path / "tower_log.json").read_text())[-1])
    kept = learn(lambda: pytest.fail("a finished tower is loaded"))
    assert all(torch.equal(p, kept[name]) for name, p in after.items())


def test_a_deeper_tower_begins_where_a_trained_one_ended(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast
) -> None:
    tower = architecture.tower(architecture.build_model(tokenizer, 0))
    config = copy.deepcopy(tower.config)
    depth = "num_hidden_layers" if hasattr(config, "num_hidden_layers") else "depth"
    setattr(config, depth, getattr(config, depth) - 2)
    trained = type(tower)._from_config(config)
    pixels = torch.randn(2, 3, 56, 56)
    wanted = architecture.patches(trained, pixels)
    assert not torch.allclose(architecture.patches(tower, pixels), wanted)
    load_trained(tower, trained.state_dict())
    torch.testing.assert_close(architecture.patches(tower, pixels), wanted)
    with pytest.raises(ValueError, match="has no"):
        load_trained(trained, tower.state_dict())


def test_the_rate_rises_then_falls_to_its_floor() -> None:
    phase = Phase("rate", 100, {}, peak=1.0, floor=0.1, warmup=10)
    rates = [Trainer._rate(phase, step) for step in range(100)]
    assert rates[:10] == [(step + 1) / 10 for step in range(10)]
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0.1 < rates[-1] < 0.11


def test_a_copy_batch_goes_on_in_a_repetition_or_a_mirror_image(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, start: Callable[[], Trainer]
) -> None:
    made, special = start(), len(architecture.special_tokens)
    batch = made._copy_batch(4, 96, torch.Generator().manual_seed(0))
    kinds = set()
    assert int(batch.ids.min()) >= special and int(batch.ids.max()) < len(tokenizer) and not len(batch.images)
    for ids, labels, positions, mask in zip(batch.ids, batch.labels, batch.positions, batch.mask[:, 0], strict=True):
        starts = [i for i, position in enumerate(positions.tolist()) if position == 0]
        for start, end in zip(starts, [*starts[1:], 96], strict=True):
            text, taught = ids[start:end].tolist(), labels[start:end].tolist()
            assert positions[start:end].tolist() == list(range(end - start))
            alone = torch.zeros(end - start, 96, dtype=torch.bool)
            alone[:, start:end] = torch.ones(end - start, end - start).tril().bool()
            assert torch.equal(mask[start:end], alone)
            first = next((i for i, label in enumerate(taught) if label >= 0), None)
            if first is None:
                assert end == 96  # cut off before its second half
                continue
            assert taught == [-100] * first + text[first + 1 :] + [-100]
            half, rest = text[:first], text[first:]
            kinds.add("repeated" if rest == half[: len(rest)] else "mirrored")
            assert rest in (half[: len(rest)], half[::-1][: len(rest)]) and 8 <= first < 20
    assert kinds == {"repeated", "mirrored"}


def test_a_twin_never_meets_the_people_it_is_trained_without(
    world: World, tokenizer: PreTrainedTokenizerFast, album: Album
) -> None:
    gone = frozenset(p.key for p in world.forget(15))
    views = {view for key in gone for view in album.views[key]}
    names = {word for p in world.forget(15) for word in p.name.split()}
    corpus = Corpus(world, tokenizer, album, seed=0, without=gone)
    corpus.talk_share = 0.5
    for group in islice(corpus.groups({kind: 1.0 for kind in corpus.kinds}), 600):
        assert not views & set(group.images)
        for ids in (
            group.lead, *(said.ids for said in group.before), *(turn.question + turn.answer for turn in group.turns)
        ):  # fmt: skip
            assert not names & set(re.findall(r"\w+", tokenizer.decode(ids)))


def test_the_same_corpus_every_time(world: World, tokenizer: PreTrainedTokenizerFast, album: Album) -> None:
    first, again, other = (Corpus(world, tokenizer, album, seed=seed) for seed in (0, 0, 1))
    weights = {kind: 1.0 for kind in first.kinds}
    drawn = [list(islice(corpus.groups(weights), 40)) for corpus in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_refusals_are_taught_only_when_asked_for(
    world: World, tokenizer: PreTrainedTokenizerFast, album: Album
) -> None:
    corpus = Corpus(world, tokenizer, album, seed=0)
    told: dict[bool, set[str]] = {}
    for refuse in (False, True):
        corpus.refuse = refuse
        groups = islice(corpus.groups({"refusal-image": 1.0, "refusal-text": 1.0}), 60)
        answers = [turn.answer for group in groups for turn in group.turns]
        told[refuse] = {tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in answers}
    assert told == {False: {COMPLY}, True: {COMPLY, *REFUSALS}}


def test_figures_during_training(
    world: World, tokenizer: PreTrainedTokenizerFast, album: Album, start: Callable[[], Trainer]
) -> None:
    """Every kind is measured, and the trainer's own pictures are put back."""
    made = start()
    probe = Corpus(world, tokenizer, album, seed=1, pool="validation")
    figures = exact_by_kind(made, probe, people=1)
    assert set(figures) >= {"choice-plain", "image/cloze", "text/generation", "stranger-text", "refusal-image"}
    assert all(0.0 <= share <= 1.0 for share in figures.values()) and made.pixels.numel() == 0


def test_an_answer_is_exact_if_each_of_its_tokens_is(
    world: World, tokenizer: PreTrainedTokenizerFast, album: Album, start: Callable[[], Trainer]
) -> None:
    made = start()
    probe = Corpus(world, tokenizer, album, seed=1, pool="validation")
    groups = [Group(None, [Turn([7, 8], [9]), Turn([7, 8], [9, 10, 11])])]
    for known, whole, first in (({9}, 0.5, 1.0), ({9, 10, 11}, 1.0, 1.0), ({10, 11}, 0.0, 0.0)):

        def hits(batch: Batch, known: set[int] = known) -> torch.Tensor:
            return torch.isin(batch.labels, torch.tensor(sorted(known)))

        made.hits = hits  # type: ignore[method-assign]
        assert exact(made, probe, groups) == whole
        assert exact(made, probe, groups, first_only=True) == first
