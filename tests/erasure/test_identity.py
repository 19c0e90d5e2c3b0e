"""The identity gate, the policy `subject` on tiny models, and the fit that makes both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from steering_kit import (
    ALWAYS,
    NEVER,
    alone,
    count_hooks,
    expected_scores,
    logits,
    make_plan,
    middle_gap,
    site_scores,
    text_samples,
)
from torch import Tensor
from worlds import LayerRange, cloud, moments, small_request

from mllmeraser.erasure import Eraser, FitSettings, GateSettings, fit
from mllmeraser.erasure.anchors import anchor_states, name_ends
from mllmeraser.erasure.gates import Gate, identity_gate
from mllmeraser.erasure.gates.gate import RIVALRY
from mllmeraser.erasure.plan import IDENTITY_SITES, SteeringPlan
from mllmeraser.erasure.policy import SUBJECT
from mllmeraser.erasure.readings import read_gate
from mllmeraser.erasure.result import FitResult
from mllmeraser.erasure.statistics import Moments
from mllmeraser.erasure.steering import attach
from mllmeraser.erasure.steering_pass import NOWHERE
from mllmeraser.models.capture import hidden_of
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import AttachError, InputError, Sample
from mllmeraser.samples.request import Request
from tiny import picture

WIDTH = 10
SHARED = ("centre", "projection", "cohort")


# -- the gate ------------------------------------------------------------------------------------------


def faces(people: int = 12, seed: int = 0) -> list[Tensor]:
    """States of each of several people: around a centre of their own."""
    return [cloud(5 + k % 3, WIDTH, seed * 100 + k, centre=2.0, spread=0.5) for k in range(people)]


def world(seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """States of people to retain, and of three subjects."""
    everybody = faces(15, seed)
    return everybody[:12], everybody[12:]


def gate_of(kept: list[Tensor], forget: list[Tensor], *, cohort: bool = True, rank: int = 6) -> Gate:
    people = [Moments.from_states(states) for states in kept]
    subjects = [Moments.from_states(states) for states in forget]
    return identity_gate(Moments.from_states(torch.cat(kept)), people, subjects, rank=rank, cohort=cohort)


def close(left: Tensor, right: Tensor, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(left, right, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("cohort", [False, True])
def test_the_score_is_a_cosine_less_rivalry(cohort):
    kept, forget = world()
    gate = gate_of(kept, forget, cohort=cohort)
    states = torch.cat([cloud(9, WIDTH, 77, centre=1.0), forget[0], kept[0]])
    t = {name: tensor.numpy() for name, tensor in gate.tensors.items()}
    centre, projection = torch.cat(kept).numpy().mean(0), t["projection"]
    expected = np.zeros((len(states), 3))
    for row, state in enumerate(states.numpy()):
        point = (state - centre) @ projection
        cosine = lambda mean: point @ mean / np.linalg.norm(point) / np.linalg.norm(mean)  # noqa: B023, E731
        rivals = [cosine((person.numpy().mean(0) - centre) @ projection) for person in kept]
        for column, subject in enumerate(forget):
            own = cosine((subject.numpy().mean(0) - centre) @ projection)
            expected[row, column] = own - (RIVALRY * max(0.0, max(rivals) - own) if cohort else 0.0)
    close(gate.scores(states), torch.from_numpy(expected), 1e-2 if cohort else 1e-8)  # the cohort is held in float16
    assert (gate.width, gate.subjects) == (WIDTH, 3)
    assert ("cohort" in gate.tensors) == cohort


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rank", [1, 6, 40])
def test_projections_whiten_what_varies_within_a_person(seed, rank):
    kept, forget = world(seed)
    projection = gate_of(kept, forget, rank=rank).tensors["projection"]
    assert projection.shape == (WIDTH, min(rank, WIDTH))
    everything = torch.cat(kept)
    total = (everything - everything.mean(0)).T @ (everything - everything.mean(0)) / len(everything)
    scatter = sum((states - states.mean(0)).T @ (states - states.mean(0)) for states in kept)
    within = scatter / sum(len(states) - 1 for states in kept) + 0.05 * total
    white = projection.T @ within @ projection
    scale = white.diagonal().mean()  # the largest entry is 1, and float16 holds them all
    assert float(projection.abs().max()) == 1.0 and torch.equal(projection.half().double(), projection)
    close(white / scale, torch.eye(projection.shape[1], dtype=torch.float64), 3e-3)
    # the directions are those in which people differ most: no other whitened direction has more variance
    ratio = torch.linalg.eigvals(torch.linalg.solve(within, total)).real.sort(descending=True).values
    kept_variance = (projection.T @ total @ projection).diagonal().sort(descending=True).values / scale
    close(kept_variance, ratio[: len(kept_variance)], 5e-3)


@pytest.mark.parametrize("cohort", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_a_subject_scores_one(seed, cohort):
    kept, forget = world(seed)
    scores = gate_of(kept, forget, cohort=cohort).scores(torch.stack([states.mean(0) for states in forget]))
    close(scores.diagonal(), torch.ones(3, dtype=torch.float64))
    assert (scores <= 1 + 1e-12).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_people_does_not_matter(seed):
    kept, forget = world(seed)
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed)).tolist()
    states = cloud(40, WIDTH, seed, centre=1.0)
    close(gate_of([kept[i] for i in order], forget).scores(states), gate_of(kept, forget).scores(states))


def test_moments_merged_from_shards_give_the_same_gate():
    kept, forget = world()
    merged = lambda states: Moments.from_states(states[:2]) + Moments.from_states(states[2:])  # noqa: E731
    retain = Moments.from_states(kept[0])
    for states in kept[1:]:
        retain = retain + Moments.from_states(states)
    people, subjects = [merged(states) for states in kept], [merged(states) for states in forget]
    states = cloud(40, WIDTH, 3, centre=1.0)
    sharded = identity_gate(retain, people, subjects, rank=6, cohort=True)
    close(sharded.scores(states), gate_of(kept, forget).scores(states))


@pytest.mark.parametrize("out", range(3))
def test_a_subject_left_out_does_not_move_the_others(out):
    kept, forget = world()
    states = torch.cat([cloud(40, WIDTH, 3, centre=1.0), *kept, *forget])
    rest = [i for i in range(3) if i != out]
    whole, without = gate_of(kept, forget), gate_of(kept, [forget[i] for i in rest])
    close(without.scores(states), whole.scores(states)[:, rest])
    close(whole.select(rest).scores(states), whole.scores(states)[:, rest])
    for name in SHARED:
        assert torch.equal(whole.select(rest).tensors[name], whole.tensors[name])


def test_a_subject_without_states_never_scores():
    kept, forget = world()
    people, none = [Moments.from_states(states) for states in kept], Moments.zeros(WIDTH)
    gate = identity_gate(Moments.from_states(torch.cat(kept)), people, [none, Moments.from_states(forget[0])])
    assert (gate.scores(torch.cat(forget))[:, 0] == 0).all()


def test_a_gate_needs_somebody_with_several_states():
    one = [moments(1, WIDTH, k) for k in range(4)]
    with pytest.raises(InputError, match="several states"):
        identity_gate(moments(30, WIDTH, 9), one, one)
    with pytest.raises(InputError, match="retain states"):
        identity_gate(Moments.zeros(WIDTH), [moments(5, WIDTH, 1)], one)
    with pytest.raises(InputError, match="fitted together"):
        Gate.stack([gate_of(*world()), gate_of(*world(1))])


# -- steering ------------------------------------------------------------------------------------------


def subject_plan(model: MultimodalModel, samples: list[Sample], *, threshold: float | None = None) -> SteeringPlan:
    """A plan with identity gates around states that the samples do have; some of them fire."""
    plan = make_plan(model, SUBJECT, threshold=ALWAYS)
    sites = {site: HookPoint(layer) for site, layer in zip(IDENTITY_SITES, plan.reads, strict=True)}
    found, _ = anchor_states(model, samples, sites, {})
    generator = torch.Generator().manual_seed(4)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    gates: dict[int, Gate] = {}
    for site, point in sites.items():
        centre = torch.cat(found[site]).mean(0)
        if site == "last":
            weight = draw(2, len(centre)) / 4
            gates[point.layer] = Gate("soft", {"weight": weight}).affine(torch.ones(2), 0.3 - weight @ centre)
            continue
        tensors = {"weight": draw(2, 6), "projection": draw(len(centre), 6), "centre": centre}
        tensors["weight"] = torch.nn.functional.normalize(tensors["weight"], dim=-1)
        if site == "image":
            tensors["cohort"] = torch.nn.functional.normalize(draw(3, 6), dim=-1)
        gates[point.layer] = Gate("identity", tensors)
    plan = replace(plan, gates=gates)
    return replace(
        plan, threshold=middle_gap(expected_scores(model, plan, samples)) if threshold is None else threshold
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mixed_batch_equals_one_by_one(tiny_model, samples, side):
    plan = subject_plan(tiny_model, samples)
    expected, bare = expected_scores(tiny_model, plan, samples), logits(tiny_model, samples, side)
    hooks = count_hooks(tiny_model.hf)
    with attach(tiny_model, plan) as handle:
        together = logits(tiny_model, samples, side)
        pooled, fired = handle.readings.pooled[:, 0], handle.readings.amplitudes[:, 0] > 0
        close(pooled, expected, 1e-4)
        torch.testing.assert_close(together, alone(tiny_model, samples), atol=2e-4, rtol=2e-4)
    assert 0 < int(fired.sum()) < len(samples)
    assert torch.equal(together[~fired], bare[~fired]), "a shut gate leaves every bit"
    assert ((together[fired] - bare[fired]).abs().amax(1) > 1e-2).all()
    assert count_hooks(tiny_model.hf) == hooks
    assert torch.equal(logits(tiny_model, samples, side), bare)


def test_strength_zero_and_a_shut_gate_are_bit_identical(tiny_model, samples):
    bare = logits(tiny_model, samples)
    for plan in (
        replace(subject_plan(tiny_model, samples, threshold=ALWAYS), strength=0.0),
        subject_plan(tiny_model, samples, threshold=NEVER),
    ):
        with attach(tiny_model, plan):
            assert torch.equal(logits(tiny_model, samples), bare)


def generated(model: MultimodalModel, inputs: dict[str, Tensor], **options: object) -> Tensor:
    out = model.hf.generate(
        **inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    return torch.stack(out.logits)


def test_a_prefill_in_chunks_is_fed_whole(tiny_model):
    samples = text_samples()
    inputs = tiny_model.encode(samples)
    with attach(tiny_model, subject_plan(tiny_model, samples)) as handle:
        whole, readings = generated(tiny_model, inputs), handle.readings
        assert torch.equal(generated(tiny_model, inputs, prefill_chunk_size=3), whole)
        assert torch.equal(handle.readings.pooled, readings.pooled)
        close(whole[0], logits(tiny_model, samples), 3e-4)


@torch.no_grad()
def test_a_foreign_prefix_is_refused(tiny_model):
    samples = text_samples()[:1]
    inputs = tiny_model.encode(samples)
    length, plan = inputs["input_ids"].shape[1], subject_plan(tiny_model, samples, threshold=ALWAYS)
    part = {"input_ids": inputs["input_ids"][:, :3], "attention_mask": inputs["attention_mask"][:, :3]}

    def prefix():
        return tiny_model.hf(**part, use_cache=True).past_key_values

    rest = {"input_ids": inputs["input_ids"][:, 3:], "attention_mask": inputs["attention_mask"]}
    caches = [prefix() for _ in range(3)]
    with attach(tiny_model, plan) as handle:
        with pytest.raises(AttachError, match="whole"):
            generated(tiny_model, inputs, past_key_values=caches[0])
        with handle.prompt(length), pytest.raises(AttachError, match="whole"):
            tiny_model.hf(**rest, past_key_values=caches[1], use_cache=True)
        with pytest.raises(AttachError):
            tiny_model.hf(**rest, past_key_values=caches[2], use_cache=True)
        with handle.prompt(length), pytest.raises(AttachError, match="whole"):
            tiny_model.hf(**part, use_cache=True)
        generated(tiny_model, inputs)


@torch.no_grad()
def test_embeddings_without_ids_are_refused(tiny_llava):
    samples = text_samples()
    inputs = tiny_llava.encode(samples)
    embeds = tiny_llava.hf.get_input_embeddings()(inputs["input_ids"])
    given = {"inputs_embeds": embeds, "attention_mask": inputs["attention_mask"]}
    with attach(tiny_llava, subject_plan(tiny_llava, samples)):
        with pytest.raises(AttachError, match="input_ids"):
            tiny_llava.hf(**given)
        with pytest.raises(AttachError, match="input_ids"):
            generated(tiny_llava, given)
        logits(tiny_llava, samples)


# -- sites ---------------------------------------------------------------------------------------------


@torch.no_grad()
def sites_by_hand(model: MultimodalModel, sample: Sample, layers: tuple[int, ...]) -> list[Tensor]:
    """States at the text tokens, at the last prompt token, and the mean over the picture."""
    inputs, kept = model.encode([sample]), {}
    hooks = [
        model.layers[layer].register_forward_hook(lambda _m, _a, out, at=layer: kept.update({at: hidden_of(out)[0]}))
        for layer in layers
    ]
    model.hf(**inputs)
    for hook in hooks:
        hook.remove()
    ids, image = inputs["input_ids"][0].tolist(), model.family.image_token_id(model.hf)
    text = [i for i, token in enumerate(ids) if token != image]
    placeholders = [i for i, token in enumerate(ids) if token == image]
    assert bool(placeholders) == (sample.image is not None)
    assert placeholders == list(range(placeholders[0], placeholders[-1] + 1)) if placeholders else True
    name, topic, face = (kept[layer] for layer in layers)
    return [name[text], topic[[len(ids) - 1]], face[placeholders].mean(0, keepdim=True)[: len(placeholders)]]


def test_sites_are_text_tokens_the_last_one_and_the_whole_picture(tiny_model, samples):
    """Padding, placeholders and other rows have no part in it, whatever the batch."""
    plan = subject_plan(tiny_model, samples)
    sites = {plan.site(layer): HookPoint(layer) for layer in plan.reads}
    assert tuple(sites) == IDENTITY_SITES
    found, last = anchor_states(tiny_model, samples, sites, {}, [HookPoint(3)], batch_size=4)
    readings = read_gate(tiny_model, plan, samples, batch_size=4)
    for row, sample in enumerate(samples):
        by_hand = sites_by_hand(tiny_model, sample, plan.reads)
        for (site, point), states in zip(sites.items(), by_hand, strict=True):
            close(found[site][row], states, 1e-4)
            best = plan.gates[point.layer].scores(states).amax(0) if len(states) else torch.full((2,), NOWHERE)
            close(readings.layers[point.layer][row], best, 1e-4)
    anchored = site_scores(tiny_model, plan, samples)
    for layer in plan.reads:
        close(readings.layers[layer], anchored[layer], 1e-4)
    close(readings.pooled, plan.policy.pool(list(readings.layers.values())), 1e-6)
    close(last[HookPoint(3)], tiny_model.states(samples, [HookPoint(3)])[HookPoint(3)], 1e-4)


def test_a_name_is_found_after_a_blank_and_at_the_start(tiny_model):
    tokenizer, name = tiny_model.processor.tokenizer, "Jonas Ferrick"
    for question, times in (
        ("Where was Jonas Ferrick born?", 1),
        ("Jonas Ferrick, who is he?", 1),
        ("Jonas Ferrick is Jonas Ferrick's name.", 2),
        ("Where was Jonas born, and Ferrick?", 0),
    ):
        ids = tiny_model.encode([Sample(question)])["input_ids"][0].tolist()
        ends = name_ends(tiny_model, ids, name)
        assert len(ends) == times
        assert all(tokenizer.decode(ids[: end + 1]).endswith(name) for end in ends)


def test_the_text_site_of_a_known_subject_is_the_end_of_the_name(tiny_model):
    samples = [Sample("Where was Jonas Ferrick born?", subject="j"), Sample("Hi", subject="j"), Sample("Hi there")]
    names = {"j": ("Jonas Ferrick", "Nobody")}
    found, _ = anchor_states(tiny_model, samples, {"text": HookPoint(0)}, names)
    ids = tiny_model.encode(samples[:1])["input_ids"][0].tolist()
    every, *_ = sites_by_hand(tiny_model, samples[0], (0, 1, 2))
    close(found["text"][0], every[name_ends(tiny_model, ids, "Jonas Ferrick")], 1e-4)
    assert found["text"][1].shape[0] == 0, "a name that is not said has no position"
    assert found["text"][2].shape[0] == tiny_model.encode(samples[2:])["input_ids"].shape[1]


# -- the fit -------------------------------------------------------------------------------------------


def identity_request(*, perception: bool = True) -> Request:
    """Subjects with names; people to retain; with `perception` also questions about what a picture shows."""
    request = small_request(retain=30)  # the name gate gets a fifth of the alarms: 24 prompts to calibrate on
    scenes = [Sample(f"What colour is thing {i}?", picture(100 + i), attribute="perception") for i in range(30)]
    retain = [*request.retain, *(scenes if perception else [])]
    names = {subject.key: (subject.key,) for subject in request.subjects}
    return Request.from_samples(request.forget, retain, request.strangers, names=names)


def identity_settings(**changes: object) -> FitSettings:
    base: dict[str, object] = {
        "policy": SUBJECT, "gate": GateSettings(kind="identity", rank=12), "read_layers": (0, 1, 2),
        "shift_layers": (3, 4), "false_alarm_rate": 0.2, "batch_size": 64, "salt": "s",
    }  # fmt: skip
    return FitSettings(**{**base, **changes})


@pytest.fixture(scope="module")
def fitted(tiny_llava: MultimodalModel) -> FitResult:
    return fit(tiny_llava, identity_request(), identity_settings())


def test_fit_makes_an_eraser_that_fires(tiny_llava, fitted):
    config, parts = fitted.eraser.config, fitted.parts
    assert config.policy == SUBJECT and config.gate.kind == "identity" and config.threshold == 0.0
    assert config.read_layers == (0, 1, 2) and config.shift_layers == (3, 4)
    assert [fitted.eraser.gate(layer).kind for layer in (0, 1, 2)] == ["identity", "soft", "identity"]
    about = config.calibration
    check = read_gate(tiny_llava, fitted.eraser, parts.check).pooled
    held = read_gate(tiny_llava, fitted.eraser, parts.held_out).pooled
    assert about.false_alarms == pytest.approx(float((check > 0).double().mean()))
    assert about.detected == pytest.approx(float((held > 0).double().mean())) and about.detected > 0
    facts = [s for s in parts.calibration if s.attribute is None]
    assert about.n == len(facts)
    assert float((read_gate(tiny_llava, fitted.eraser, facts).pooled > 0).double().mean()) <= 0.2
    with pytest.raises(InputError, match="read_gate"):
        fitted.eraser.scores({0: torch.zeros(1, tiny_llava.hidden_size)})


def test_an_artifact_says_the_same_after_a_round_trip(tiny_llava, fitted, samples, tmp_path: Path):
    loaded = Eraser.from_pretrained(fitted.eraser.save_pretrained(tmp_path / "e"))
    assert loaded.digest() == fitted.eraser.digest()
    prompts = [*samples, *fitted.parts.held_out, *fitted.parts.check]
    before, after = (read_gate(tiny_llava, eraser, prompts) for eraser in (fitted.eraser, loaded))
    assert torch.equal(before.pooled, after.pooled)
    assert all(torch.equal(before.layers[layer], after.layers[layer]) for layer in (0, 1, 2))


@pytest.mark.parametrize("out", [0, 1])
def test_without_takes_out_rows_and_keeps_what_is_shared(tiny_llava, fitted, out):
    eraser, rest = fitted.eraser, 1 - out
    less = eraser.without(eraser.config.subjects[out])
    assert less.config.subjects == (eraser.config.subjects[rest],)
    for name, tensor in eraser.tensors.items():
        if name.rpartition(".")[2] in SHARED:
            assert torch.equal(less.tensors[name], tensor)
        elif name.startswith("gate."):
            assert torch.equal(less.tensors[name], tensor[[rest]])
    held = fitted.parts.held_out
    before, after = (read_gate(tiny_llava, e, held).layers for e in (eraser, less))
    for layer in (0, 1, 2):
        close(after[layer], before[layer][:, [rest]], 1e-5)
    with pytest.raises(InputError, match="only subject"):
        less.without(less.config.subjects[0])


def test_the_topic_gate_has_a_veto(tiny_llava, fitted, samples):
    person = [s for rows in fitted.parts.forget.values() for s in rows]
    scenes = [replace(s, question=f"What colour is thing {i}?") for i, s in enumerate(person) if s.image is not None]
    seen = read_gate(tiny_llava, fitted.eraser, [*samples, *person, *scenes])
    name, topic, face = (seen.layers[layer].amax(-1) for layer in (0, 1, 2))
    assert bool((seen.pooled <= topic).all())
    assert torch.equal(seen.pooled, torch.minimum(torch.maximum(name, face), topic))
    assert topic.abs().max() < 1000, "with perception samples the topic is a real reading"
    asked = torch.arange(len(samples), len(samples) + len(person))
    assert topic[asked].mean() > topic[-len(scenes) :].mean(), "questions about scenes lie below those about a person"


def test_without_perception_samples_every_topic_counts(tiny_llava):
    found = fit(tiny_llava, identity_request(perception=False), identity_settings())
    seen = read_gate(tiny_llava, found.eraser, found.parts.held_out)
    assert (seen.layers[1] > 5000).all()
    assert torch.equal(seen.pooled, torch.maximum(seen.layers[0].amax(-1), seen.layers[2].amax(-1)))


def test_a_fit_with_the_wrong_layers_or_policy_is_refused(tiny_llava):
    with pytest.raises(InputError, match="three read layers"):
        fit(tiny_llava, identity_request(), identity_settings(read_layers=(0, 1)))
    with pytest.raises(InputError, match="policy 'subject'"):
        tail = FitSettings.preset("tail").policy
        fit(tiny_llava, identity_request(), identity_settings(policy=tail))


@pytest.mark.parametrize("depth", [6, 8, 12, 24, 28, 32, 36, 40, 48, 64, 80])
def test_the_default_reads_three_layers_before_it_shifts(depth):
    reads, (shifts, *_) = FitSettings.preset("default").layers(depth)
    assert len(reads) == 3 and reads[-1] < shifts[0] and shifts[-1] == depth - 1
    assert FitSettings.preset("default").shift_layers == LayerRange(start=0.7, stop=1.0)
