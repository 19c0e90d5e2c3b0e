"""Perturbed images: inside the ball and the valid range, closer to the target, weights untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mllmeraser.erasure import ContrastSet, DirectionSettings, PGDSettings
from mllmeraser.erasure.directions.contrast_states import contrast_states
from mllmeraser.erasure.directions.pgd import AdversarialBatch, perturb, perturb_job
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples import InputError, Sample
from tiny import picture

PROMPTS = [Sample(f"How do I make this {i}?", picture(i, (24, 24) if i % 2 else (56, 28))) for i in range(3)]
TARGETS = ["She", "baker", "Jonas"]
STRONG = PGDSettings(epsilon=64 / 255, step=8 / 255, steps=8)


def nll(model: MultimodalModel, found: AdversarialBatch, row: int, pixels: torch.Tensor) -> float:
    batch = model.encode_answers([found.samples[row]], [TARGETS[row]], end=False)
    labels = batch.pop("labels")
    batch["pixel_values"] = pixels
    with torch.no_grad():
        logits = model.hf(**batch).logits
    wanted = labels[:, 1:] != IGNORED
    return float(torch.nn.functional.cross_entropy(logits[:, :-1][wanted], labels[:, 1:][wanted]))


def test_descent_stays_in_bounds_and_lowers_the_loss(tiny_model: MultimodalModel) -> None:
    learning = [p.requires_grad for p in tiny_model.hf.parameters()]
    found = perturb(tiny_model, PROMPTS, TARGETS, STRONG)
    assert [p.requires_grad for p in tiny_model.hf.parameters()] == learning
    assert all(p.grad is None for p in tiny_model.hf.parameters())
    for row, sample in enumerate(PROMPTS):
        clean = tiny_model.encode([sample])["pixel_values"]
        space = tiny_model.family.pixel_bounds(tiny_model.processor, tiny_model.encode([sample]))
        moved = found.pixels[row]
        assert moved.shape == clean.shape and not torch.equal(moved, clean)
        levels = (moved - clean).abs() / space.scale
        assert float(levels.max()) <= 64.0 + 1e-3
        assert bool((moved >= space.lower - 1e-5).all()) and bool((moved <= space.upper + 1e-5).all())
        assert torch.allclose(space.tie(moved), moved, atol=1e-5), "copies of a pixel move together"
        assert nll(tiny_model, found, row, moved) < nll(tiny_model, found, row, clean)


def test_finished_batches_are_reused(tiny_model: MultimodalModel, tmp_path: Path) -> None:
    few = STRONG.model_copy(update={"steps": 2, "batch_size": 2})
    whole = perturb(tiny_model, PROMPTS, TARGETS, few)
    checkpoint = CaptureCheckpoint(tmp_path / "work")
    checkpoint.share(perturb_job(tiny_model, PROMPTS, TARGETS, few), ProcessGroup())
    first, second = sorted(checkpoint.folder.iterdir())
    passes: list[int] = []
    hook = tiny_model.hf.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        again = perturb(tiny_model, PROMPTS, TARGETS, few, checkpoint=checkpoint)
        assert not passes
        first.unlink()
        resumed = perturb(tiny_model, PROMPTS, TARGETS, few, checkpoint=checkpoint)
        assert 0 < len(passes) <= 3, "one batch: a step takes a pass, and the end of it one more"
        before = len(passes)
        perturb(tiny_model, PROMPTS, ["He", *TARGETS[1:]], few, checkpoint=checkpoint)
        assert len(passes) > before, "with another target it is another picture"
    finally:
        hook.remove()
    for found in (again, resumed):
        assert all(torch.equal(one, other) for one, other in zip(found.pixels, whole.pixels, strict=True))
        assert torch.equal(found.flipped, whole.flipped) and torch.equal(found.complied, whole.complied)
    assert second.exists()


def test_a_picture_for_one_text_is_not_taken_for_another(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    """The target is part of the digest of a batch: the same prompt twice, and two prompts in another order."""
    few = STRONG.model_copy(update={"steps": 2, "batch_size": 1})
    twice, texts, work = [PROMPTS[0], PROMPTS[0]], ["She", "Jonas"], CaptureCheckpoint(tmp_path / "work")
    for samples, targets in ((twice, texts), (PROMPTS[:2], texts), (PROMPTS[1::-1], texts)):
        alone = perturb(tiny_llava, samples, targets, few)
        kept = perturb(tiny_llava, samples, targets, few, checkpoint=work)
        assert all(torch.equal(one, other) for one, other in zip(alone.pixels, kept.pixels, strict=True))


def test_flipped_means_that_greedy_decoding_says_the_target(tiny_model: MultimodalModel) -> None:
    said = tiny_model.generate(PROMPTS, max_new_tokens=1)
    other = [said[1], said[2], said[0]]
    targets = [text if text.strip() else "She" for text in other]
    found = perturb(tiny_model, PROMPTS, targets, STRONG.model_copy(update={"steps": 25, "flip_tokens": 1}))
    assert 0.0 <= found.flip_rate <= 1.0
    ids = [tiny_model.prompts.encode_answers([s], [t], end=False) for s, t in zip(PROMPTS, targets, strict=True)]
    for row, one in enumerate(ids):
        wanted = int(one["labels"][one["labels"] != IGNORED][0])
        batch = found.inputs(tiny_model, [row])
        with torch.no_grad():
            best = int(tiny_model.hf(**batch).logits[0, -1].argmax())
        complies = bool(found.flipped[row] or found.complied[row])
        assert complies == (best == wanted)


def test_batch_equals_one_by_one(tiny_model: MultimodalModel) -> None:
    few = STRONG.model_copy(update={"steps": 2})
    together = perturb(tiny_model, PROMPTS, TARGETS, few)
    for row in range(len(PROMPTS)):
        alone = perturb(tiny_model, PROMPTS[row : row + 1], TARGETS[row : row + 1], few)
        # sign() turns rounding into whole steps where a gradient is almost zero.
        same = ((together.pixels[row] - alone.pixels[0]).abs() < 1e-4).double().mean()
        assert float(same) > 0.99


def test_states_are_those_of_the_perturbed_pictures(tiny_model: MultimodalModel) -> None:
    points = [HookPoint(0), HookPoint(2)]
    found = perturb(tiny_model, PROMPTS, TARGETS, STRONG.model_copy(update={"steps": 1}))
    clean = AdversarialBatch(
        found.samples,
        tuple(tiny_model.encode([sample])["pixel_values"] for sample in PROMPTS),
        found.complied,
        found.flipped,
    )
    plain = tiny_model.states(PROMPTS, points)
    same = clean.states(tiny_model, points, [0, 1, 2], batch_size=2)
    moved = found.states(tiny_model, points, [0, 1, 2])
    for point in points:
        assert torch.allclose(same[point], plain[point], atol=1e-4)
        assert not torch.allclose(moved[point], plain[point], atol=1e-3)


def test_a_row_that_complies_already_is_left_alone_and_does_not_count(tiny_llava: MultimodalModel) -> None:
    batch = tiny_llava.encode([PROMPTS[0]])
    with torch.no_grad():
        token = int(tiny_llava.hf(**batch).logits[0, -1].argmax())
    word = tiny_llava.processor.tokenizer.decode([token])
    row = tiny_llava.prompts.encode_answers([PROMPTS[0]], [word], end=False)["labels"]
    assert int(row[row != IGNORED][0]) == token, "the tiny model's first word has to be one token"
    found = perturb(tiny_llava, [PROMPTS[0]], [word], STRONG.model_copy(update={"flip_tokens": 1}))
    assert bool(found.complied[0]) and not bool(found.flipped[0]) and found.flip_rate == 0.0
    assert torch.equal(found.pixels[0], tiny_llava.encode([PROMPTS[0]])["pixel_values"])


def test_bad_requests_are_refused(tiny_llava: MultimodalModel) -> None:
    with pytest.raises(InputError, match="target"):
        perturb(tiny_llava, PROMPTS, ["one"])
    with pytest.raises(InputError, match="picture"):
        perturb(tiny_llava, [Sample("Hi")], ["one"])
    with pytest.raises(InputError, match="complying"):
        ContrastSet.from_samples([Sample("Hi", picture(1))])


def test_contrast_sides(tiny_llava: MultimodalModel) -> None:
    points = [HookPoint(1)]
    restricted = [Sample(s.question, s.image, answer=t) for s, t in zip(PROMPTS, TARGETS, strict=True)]
    benign = [Sample(s.question, picture(50 + i)) for i, s in enumerate(PROMPTS[:2])]
    contrast = ContrastSet.from_samples(restricted, benign)
    clean = contrast_states(tiny_llava, contrast, DirectionSettings(kind="clean-image"), points)
    assert torch.allclose(clean.erase[points[0]], tiny_llava.states(restricted, points)[points[0]], atol=1e-4)
    assert clean.recall[points[0]].shape[0] == 2 and clean.flip_rate is None
    texts = contrast_states(tiny_llava, contrast, DirectionSettings(kind="text-only"), points)
    bare = [Sample(s.question) for s in restricted]
    assert torch.allclose(texts.erase[points[0]], tiny_llava.states(bare, points)[points[0]], atol=1e-4)
    with pytest.raises(InputError, match="benign"):
        contrast_states(tiny_llava, ContrastSet.from_samples(restricted), DirectionSettings(kind="clean-image"), points)


def test_only_flipped_pairs_are_kept(tiny_llava: MultimodalModel) -> None:
    points = [HookPoint(1)]
    contrast = ContrastSet.from_samples(
        [Sample(s.question, s.image, answer=t) for s, t in zip(PROMPTS, TARGETS, strict=True)]
    )
    weak = PGDSettings(epsilon=1e-6, step=1e-6, steps=1)
    with pytest.raises(InputError, match="no perturbed image"):
        contrast_states(tiny_llava, contrast, DirectionSettings(kind="refusal", pgd=weak), points)
    strong = PGDSettings(epsilon=1.0, step=0.1, steps=40, flip_tokens=1)
    sides = contrast_states(tiny_llava, contrast, DirectionSettings(kind="refusal", pgd=strong), points)
    assert sides.flip_rate is not None and 0.0 < sides.flip_rate <= 1.0
    assert sides.erase[points[0]].shape == sides.recall[points[0]].shape
    assert not torch.allclose(sides.erase[points[0]], sides.recall[points[0]], atol=1e-3)
