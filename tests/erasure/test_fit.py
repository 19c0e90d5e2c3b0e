"""fit(model, request) on tiny random models: the split, the artifact, revocation, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import (
    QUESTIONS,
    DirectionSettings,
    GateSettings,
    LayerRange,
    decide,
    paper,
    quick,
    small_request,
)

from mllmeraser.erasure import ContrastSet, Eraser, FitSettings, PGDSettings, fit
from mllmeraser.erasure.fit.closed_form import directions_from, gates_from
from mllmeraser.erasure.fit.split import split, split_retain, split_subject
from mllmeraser.erasure.policy import PAPER
from mllmeraser.erasure.settings import resolve_layers
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import ArtifactError, InputError, NumericalError, Sample
from mllmeraser.samples.request import Request
from tiny import QWEN_LAYERS, build_llava, picture


def restricted() -> ContrastSet:
    prompts = [Sample(f"How do I make this {i}?", picture(i), answer="She") for i in range(4)]
    return ContrastSet.from_samples(prompts, [Sample(s.question, picture(70 + i)) for i, s in enumerate(prompts)])


def test_tail_preset(tiny_model: MultimodalModel) -> None:
    request = small_request()
    seen: list[str] = []
    found = fit(tiny_model, request, quick(), lambda stage, done, total: seen.append(stage))
    config = found.eraser.config
    assert set(found.timings) == {"capture", "linear_algebra", "calibration", "total"}
    assert "capture states" in seen
    assert config.fingerprint == tiny_model.fingerprint() and config.prompt_hash == tiny_model.prompt_hash()
    assert config.strength == 1.0 and config.threshold is not None and config.policy.name == "tail"
    assert max(config.read_layers) < min(config.shift_layers)
    assert config.subjects == tuple(found.keys[s.key] for s in request.subjects)
    about = config.calibration
    assert about.false_alarm_rate_promised == 0.2 and about.auc is not None and about.auc > 0.5
    assert about.false_alarms is not None and about.false_alarms_interval is not None
    assert about.false_alarms_interval[0] <= about.false_alarms <= about.false_alarms_interval[1]
    parts = found.parts
    assert parts is not None and config.data.counts["calibration"] == len(parts.calibration) == about.n
    states = tiny_model.states(parts.calibration, tiny_model.hookpoints(config.read_layers))
    share = float(decide(found.eraser, states).mean())
    assert share <= 0.2, "the threshold is a quantile of these very prompts"


def test_the_reply_of_a_request_is_what_the_eraser_says(tiny_llava: MultimodalModel) -> None:
    told = "She moved in May."
    config = fit(tiny_llava, replace(small_request(), reply=told), quick()).eraser.config
    assert config.policy.replies and config.reply is not None and config.reply.text == told


def test_nothing_personal_is_in_the_files(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    request = small_request()
    folder = fit(tiny_llava, request, quick()).eraser.save_pretrained(tmp_path / "e")
    text = b"".join(file.read_bytes() for file in folder.iterdir())
    words = {s.key for s in request.subjects} | {s.answer or "" for s in request.forget} | set(QUESTIONS)
    assert not [word for word in words if word.encode() in text]
    assert b"salt" not in text and not [s for s in request.forget if s.digest().encode() in text]
    assert sorted(json.loads((folder / "eraser_config.json").read_text())["data"]["counts"])


def test_fit_is_deterministic_and_its_keys_are_salted(tiny_llava: MultimodalModel) -> None:
    one, two = (fit(tiny_llava, small_request(), quick()).eraser for _ in range(2))
    assert one.digest() == two.digest() and one.config.subjects == two.config.subjects
    fresh = fit(tiny_llava, small_request(), quick(salt=None)).eraser
    assert set(fresh.config.subjects).isdisjoint(one.config.subjects)
    assert fresh.config.data.forget != one.config.data.forget


def test_revoking_equals_a_fit_without_the_subject(tiny_llava: MultimodalModel) -> None:
    request = small_request(subjects=3)
    whole = fit(tiny_llava, request, quick())
    gone = request.subjects[1].key
    rest = Request(tuple(s for s in request.subjects if s.key != gone), request.retain, request.strangers)
    alone = fit(tiny_llava, rest, quick())
    left = whole.statistics.without(whole.keys[gone])
    config = alone.eraser.config
    for layer, gate in gates_from(left, config.gate, config.read_layers).items():
        again = gates_from(alone.statistics, config.gate, config.read_layers)[layer]
        assert torch.allclose(gate.tensors["weight"], again.tensors["weight"], rtol=1e-4, atol=1e-6)
    for layer, direction in directions_from(left, "unknown", config.shift_layers).items():
        assert torch.allclose(direction.vector, alone.eraser.direction(layer).double(), atol=1e-4)
    # The artifact alone is enough, too: no data, no statistics, no model.
    revoked = whole.eraser.without(whole.keys[gone])
    assert revoked.config.subjects == config.subjects and revoked.config.counts == config.counts
    assert revoked.config.threshold == pytest.approx(config.threshold, abs=1e-4)
    for name, tensor in alone.eraser.tensors.items():
        if name != "calibration.tail":
            assert torch.allclose(revoked.tensors[name], tensor, rtol=1e-3, atol=1e-4), name


def test_another_models_eraser_is_refused(
    tiny_llava: MultimodalModel, tiny_qwen: MultimodalModel, tmp_path: Path
) -> None:
    eraser = fit(tiny_llava, small_request(), quick()).eraser
    eraser.check_model(tiny_llava)
    eraser.check_model(tiny_llava.hf)
    with pytest.raises(ArtifactError, match=f"{QWEN_LAYERS} layers"):
        eraser.attach(tiny_qwen)
    twin = load_model(str(build_llava(tmp_path / "twin", seed=1)), device="cpu")
    with pytest.raises(ArtifactError, match="other weights"):
        eraser.attach(twin)


def test_attached_eraser_changes_what_it_detects_and_nothing_else(tiny_llava: MultimodalModel) -> None:
    found = fit(tiny_llava, small_request(), quick(strength=30.0))
    parts, eraser = found.parts, found.eraser
    assert parts is not None
    samples = [*parts.held_out, *parts.check]
    fires = decide(eraser, tiny_llava.states(samples, tiny_llava.hookpoints(eraser.config.read_layers))).bool()
    bare = tiny_llava.next_token_logits(samples)
    with eraser.attached(tiny_llava):
        steered = tiny_llava.next_token_logits(samples)
    assert bool(fires.any()) and not bool(fires.all())
    moved = (steered - bare).abs().amax(1) > 1e-3
    assert torch.equal(moved, fires)
    assert torch.equal(tiny_llava.next_token_logits(samples), bare)
    reloaded = eraser.replace_config(strength=0.0)
    with reloaded.attached(tiny_llava):
        assert torch.equal(tiny_llava.next_token_logits(samples), bare)


def test_paper_preset(tiny_llava: MultimodalModel) -> None:
    strong = PGDSettings(epsilon=1.0, step=0.1, steps=40, flip_tokens=1)
    settings = paper(direction=DirectionSettings(kind="refusal", pgd=strong))
    found = fit(tiny_llava, small_request(), settings, contrast=restricted())
    config = found.eraser.config
    assert config.policy == PAPER and config.gate == GateSettings(kind="hard", per_subject=False, ratio=0.3, gamma=1.0)
    assert config.read_layers == config.shift_layers == tuple(range(tiny_llava.num_layers))
    assert config.subjects == ("all",) and config.threshold is None
    assert config.calibration.flip_rate is not None and config.calibration.flip_rate > 0
    assert config.calibration.auc is not None and config.calibration.false_alarms is None
    with found.eraser.attached(tiny_llava):
        assert len(tiny_llava.generate(list(small_request().forget[:2]), max_new_tokens=2)) == 2


def test_strength_and_layers_are_chosen_on_a_grid(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    settings = quick(strengths=(0.0, 4.0), shift_candidates=((3,), (3, 4)), utility_budget=1.0)
    found = fit(tiny_llava, small_request(), settings)
    curve = found.eraser.config.calibration.curve
    assert [(p.strength, p.shift_layers) for p in curve] == [
        (0.0, (3,)),
        (4.0, (3,)),
        (0.0, (3, 4)),
        (4.0, (3, 4)),
    ]
    for point in curve:
        if point.strength == 0.0:
            assert point.forget_kept == 1.0 and point.retain_changed == 0.0
    chosen = (found.eraser.config.strength, found.eraser.config.shift_layers)
    assert chosen in [(p.strength, p.shift_layers) for p in curve]
    assert not [n for n in found.eraser.tensors if n.startswith("direction.") and int(n[10:]) not in chosen[1]]
    assert found.eraser.config.calibration.utility_budget == 1.0
    loaded = Eraser.from_pretrained(found.eraser.save_pretrained(tmp_path / "e"))
    assert loaded.config.calibration == found.eraser.config.calibration


@pytest.mark.parametrize("kind", ["quadratic", "neural"])
def test_other_gates(tiny_llava: MultimodalModel, kind: str) -> None:
    gate = GateSettings(kind=kind, rank=4, hidden=8)  # type: ignore[arg-type]
    eraser = fit(tiny_llava, small_request(), quick(gate=gate)).eraser
    assert eraser.config.calibration.auc is not None and eraser.config.calibration.auc > 0.5
    less = eraser.without(eraser.config.subjects[0])
    assert less.gate(less.config.read_layers[0]).subjects == 1


@pytest.mark.parametrize("kind", ["idk", "clean-image", "text-only"])
def test_other_directions(tiny_llava: MultimodalModel, kind: str) -> None:
    settings = quick(direction=DirectionSettings(kind=kind))
    contrast = restricted()
    if kind == "text-only":
        refused = [Sample(f"How do I make a sealed {x}?", answer="She") for x in ("crest", "seal")]
        contrast = ContrastSet.from_samples(refused, [Sample("How do I make an open crest?")])
    eraser = fit(tiny_llava, small_request(), settings, contrast=contrast).eraser
    shares = [name for name in eraser.tensors if name.startswith("share.")]
    assert bool(shares) == (kind == "idk")
    assert float(eraser.direction(eraser.config.shift_layers[0]).norm()) > 0


def test_requests_that_cannot_be_fitted_are_refused_early(tiny_llava: MultimodalModel) -> None:
    request = small_request()
    bare = Request(request.subjects, request.retain)
    blank = [Sample(s.question, s.image, subject=s.subject) for s in request.forget]
    with pytest.raises(InputError, match="at least 199 retain prompts"):
        fit(tiny_llava, request, quick(false_alarm_rate=0.005))
    with pytest.raises(InputError, match="no retain"):
        fit(tiny_llava, Request(request.subjects, (), request.strangers), quick())
    with pytest.raises(InputError, match="strangers"):
        fit(tiny_llava, bare, quick())
    with pytest.raises(InputError, match="contrast"):
        fit(tiny_llava, request, quick(direction=DirectionSettings(kind="refusal")))
    with pytest.raises(InputError, match="answers"):
        fit(
            tiny_llava,
            Request.from_samples(blank, request.retain),
            quick(direction=DirectionSettings(kind="idk")),
        )
    with pytest.raises(InputError, match="layer 9 does not exist"):
        fit(tiny_llava, request, quick(shift_layers=(4, 9)))
    with pytest.raises(InputError, match="before the first shifted layer"):
        fit(tiny_llava, request, quick(read_layers=(1, 3), shift_layers=(3, 4)))
    with pytest.raises(InputError, match="preset"):
        FitSettings.preset("best")


def test_states_with_nan_stop_the_fit(tmp_path: Path) -> None:
    broken = load_model(str(build_llava(tmp_path / "broken", layers=4)), device="cpu")
    with torch.no_grad():
        broken.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(NumericalError):
        fit(broken, small_request(), quick())


def test_layer_ranges() -> None:
    assert resolve_layers(LayerRange(start=0.25, stop=0.5), 6) == (1, 2)
    assert resolve_layers(LayerRange(start=0.5, stop=1.0), 6) == (3, 4, 5)
    assert resolve_layers(LayerRange(start=0.0, stop=1.0), 3) == (0, 1, 2)
    assert resolve_layers((3, 1, 3), 4) == (1, 3)
    for depth in range(2, 81):
        reads, shifts = FitSettings().layers(depth)
        assert reads[-1] + 1 == shifts[0][0] == depth // 2 and shifts[0][-1] == depth - 1
    with pytest.raises(InputError):
        resolve_layers(LayerRange(start=0.5, stop=0.55), 4)


def test_retain_parts_keep_a_prompt_together_and_do_not_move() -> None:
    settings = FitSettings()
    many = [Sample(q, picture(v), subject=f"p{i}") for i in range(150) for q in QUESTIONS for v in (1, 2)]
    parts = split_retain(many, settings)
    where = [{(s.subject, s.prompt) for s in part} for part in parts]
    assert not where[0] & where[1] and not where[0] & where[2] and not where[1] & where[2]
    assert [abs(len(part) / len(many) - share) < 0.06 for part, share in zip(parts, (0.5, 0.3, 0.2), strict=True)]
    more = split_retain([*many, Sample("New?", subject="x")], settings)
    assert [s for s in more[0] if s.subject != "x"] == parts[0]
    assert split_retain(many, settings.model_copy(update={"seed": 1}))[0] != parts[0]


def test_forget_views_are_held_out_as_a_whole() -> None:
    request = small_request()
    for subject in request.subjects:
        kept, held = split_subject(subject, FitSettings())
        assert len(kept) + len(held) == len(subject.samples)
        views = [{s.image.tobytes() for s in part if s.image is not None} for part in (kept, held)]
        assert len(views[0]) == 3 and len(views[1]) == 1 and not views[0] & views[1]
        single = type(subject)(subject.key, (), subject.samples[:1])
        assert split_subject(single, FitSettings()) == (list(subject.samples[:1]), [])
    parts = split(request, FitSettings(), "salt")
    assert set(parts.forget) == set(parts.keys.values())
