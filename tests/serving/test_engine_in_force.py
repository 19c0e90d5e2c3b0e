"""What is in force: changed between two batches, seen to act, or nothing is answered."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from engine_kit import FULL, SOON, answers, ask, only, running
from steering_kit import ALWAYS, NEVER, count_hooks, make_plan

from mllmeraser.erasure import Eraser, EraserConfig
from mllmeraser.erasure.artifact.manifest import Calibration, subject_key
from mllmeraser.erasure.policy import PAPER, PERSISTENT, SUBJECT, TAIL, Policy
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import ArtifactError, AttachError, InputError, Sample
from mllmeraser.serving.engine import Engine, EngineClosed, EngineError


def always(model: MultimodalModel, **changes: Any) -> Any:
    return replace(make_plan(model, threshold=ALWAYS), **changes)


def test_nothing_is_answered_before_a_set_is_in_force(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    engine = Engine(tiny_llava)
    with pytest.raises(EngineClosed, match="gives no answers"):
        ask(engine, tiny_llava, samples[3])
    assert engine.status().closed == "no erasers have been applied yet"
    engine.start()
    with pytest.raises(EngineClosed, match="nothing is in force"):
        engine.probe().result(SOON)
    assert engine.apply(1, {}).result(SOON).names == ()
    assert ask(engine, tiny_llava, samples[3]).result(SOON).tokens == 12
    assert engine.stop()


def test_applied_tells_what_came_into_force(tiny_llava: MultimodalModel) -> None:
    before = count_hooks(tiny_llava.hf)
    with running(tiny_llava, {"b": always(tiny_llava), "a": always(tiny_llava)}, version=4) as engine:
        applied = engine.probe().result(SOON)
        assert (applied.version, applied.names) == (4, ("a", "b"))
        assert applied.hooks == count_hooks(tiny_llava.hf) - 1 > before, "the wrapped generate is no hook"
        status = engine.status()
        assert (status.applied, status.closed, status.queued, status.running) == (applied, None, 0, 0)
    assert count_hooks(tiny_llava.hf) == 0
    assert engine.status().closed == "stopped"


@pytest.mark.parametrize("policy", [TAIL, PAPER, PERSISTENT, SUBJECT], ids=lambda policy: policy.name)
@pytest.mark.parametrize("threshold", [NEVER, ALWAYS])
def test_the_probe_passes_whatever_the_gates_say(tiny_model: MultimodalModel, policy: Policy, threshold: float) -> None:
    plan = make_plan(tiny_model, policy, threshold=threshold)
    with running(tiny_model, {"a": plan, "still": replace(plan, strength=0.0)}) as engine:
        assert engine.probe().result(SOON).names == ("a", "still")


def test_a_set_takes_effect_between_two_batches(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    sets: list[Any] = []
    held, go = threading.Event(), threading.Event()

    def slow(view: Any) -> set[str]:
        held.set()
        assert go.wait(SOON)
        return default(view)

    def default(view: Any) -> set[str]:
        sets.append(view)
        return set(view.names)

    with running(tiny_llava, max_batch=2) as engine:
        first = ask(engine, tiny_llava, samples[0], choose=slow)
        assert held.wait(SOON)
        future = engine.apply(2, {"a": always(tiny_llava)})
        second = ask(engine, tiny_llava, samples[0], choose=default)
        assert not future.done(), "a batch is being answered"
        go.set()
        assert future.result(SOON).version == 2
        bare, steered = answers([first, second])
    assert [(view.version, view.names) for view in sets] == [(1, ()), (2, ("a",))]
    assert (first.version, first.erasers) == (1, frozenset())
    assert (second.version, second.erasers) == (2, frozenset({"a"}))
    assert bare != steered


def test_the_view_is_handed_on_as_it_is(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    @dataclass(frozen=True)
    class Set:
        version: int
        tenants: tuple[str, ...]

    mine, seen = Set(5, ("t",)), []
    with running(tiny_llava) as engine:
        engine.apply(5, {"a": always(tiny_llava)}, view=mine).result(SOON)
        ask(engine, tiny_llava, samples[3], choose=lambda view: seen.append(view) or {"a"}).result(SOON)
    assert seen[0] is mine


def test_a_choice_that_cannot_be_made_fails_its_row_alone(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    def unknown(view: Any) -> set[str]:
        raise InputError("no eraser is called 'x'")

    def broken(view: Any) -> set[str]:
        raise KeyError("secret")

    with running(tiny_llava, {"a": always(tiny_llava)}, max_batch=4, max_wait_s=FULL) as engine:
        tickets = [
            ask(engine, tiny_llava, samples[0], choose=choose) for choose in (unknown, broken, only("a", "b"), only())
        ]
        assert tickets[3].result(SOON).tokens == 12
        with pytest.raises(InputError, match="no eraser is called 'x'"):
            tickets[0].result(SOON)
        with pytest.raises(EngineError, match="could not be chosen") as caught:
            tickets[1].result(SOON)
        assert "secret" not in str(caught.value)
        with pytest.raises(EngineError, match="is not in force"):
            tickets[2].result(SOON)


def test_an_eraser_of_another_model_closes_the_engine_until_a_set_fits(
    tiny_llava: MultimodalModel, samples: list[Sample]
) -> None:
    blocked, go = threading.Event(), threading.Event()

    def slow(view: Any) -> set[str]:
        blocked.set()
        assert go.wait(SOON)
        return set()

    with running(tiny_llava, {"a": always(tiny_llava)}, max_batch=1) as engine:
        running_ticket = ask(engine, tiny_llava, samples[3], choose=slow)
        assert blocked.wait(SOON)
        future = engine.apply(2, {"b": eraser(tiny_llava, fingerprint="of another model")})
        waiting = ask(engine, tiny_llava, samples[3])
        go.set()
        with pytest.raises(ArtifactError, match="other weights"):
            future.result(SOON)
        assert running_ticket.result(SOON).finish == "length", "it was answered under the set before"
        with pytest.raises(EngineClosed, match="gives no answers"):
            waiting.result(SOON)
        with pytest.raises(EngineClosed, match="gives no answers"):
            ask(engine, tiny_llava, samples[3])
        assert "version 2" in str(engine.status().closed)
        assert (engine.status().applied, count_hooks(tiny_llava.hf)) == (None, 0)
        with pytest.raises(EngineError, match="older than 2"):
            engine.apply(1, {"a": always(tiny_llava)}).result(SOON)
        with pytest.raises(EngineClosed):
            ask(engine, tiny_llava, samples[3])
        engine.apply(3, {"b": eraser(tiny_llava)}).result(SOON)
        assert ask(engine, tiny_llava, samples[3], ("b",)).result(SOON).tokens == 12


def eraser(model: MultimodalModel, **changes: Any) -> Eraser:
    """A real artifact with the tensors of a plan that always fires."""
    plan = always(model)
    tensors = {f"direction.{layer}": direction for layer, direction in plan.directions.items()}
    for layer, gate in plan.gates.items():
        tensors |= {f"gate.{layer}.{part}": tensor for part, tensor in gate.tensors.items()}
    fields = {
        "package_version": "0", "created": "2026-01-01T00:00:00+00:00", "base_model": "tiny",
        "fingerprint": model.fingerprint(), "dtype": "float32", "prompt_hash": model.prompt_hash(),
        "hidden_size": model.hidden_size, "num_layers": model.num_layers, "read_layers": plan.read_layers,
        "shift_layers": plan.shift_layers, "policy": TAIL, "threshold": ALWAYS, "counts": (3, 3),
        "subjects": tuple(subject_key(str(n), "salt") for n in range(2)),
        "calibration": Calibration(false_alarm_rate_promised=0.1, n=20, detected=0.9),
    }  # fmt: skip
    return Eraser(EraserConfig.model_validate({**fields, **changes}), tensors)


def test_an_artifact_acts(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    made = eraser(tiny_llava)
    with running(tiny_llava, {"a": made}) as engine:
        steered, bare = answers([ask(engine, tiny_llava, samples[0], names) for names in (("a",), ())])
    assert steered != bare


def test_an_eraser_that_changes_nothing_is_found(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    plan = always(tiny_llava)
    dead = replace(plan, directions={layer: torch.zeros_like(v) for layer, v in plan.directions.items()})
    with running(tiny_llava) as engine:
        with pytest.raises(AttachError, match="change nothing"):
            engine.apply(2, {"a": dead}).result(SOON)
        assert count_hooks(tiny_llava.hf) == 0
        with pytest.raises(EngineClosed):
            ask(engine, tiny_llava, samples[3])


def test_a_gate_that_gives_no_number_is_found(tiny_llava: MultimodalModel) -> None:
    plan = always(tiny_llava)
    gate = plan.gates[0]
    broken = replace(gate, tensors={**gate.tensors, "weight": torch.full_like(gate.tensors["weight"], torch.nan)})
    with running(tiny_llava) as engine:
        with pytest.raises(AttachError, match="not finite"):
            engine.apply(2, {"a": plan, "b": replace(plan, gates={**plan.gates, 0: broken})}).result(SOON)


@pytest.mark.parametrize("what", ["block", "model", "generate"])
def test_a_hook_that_is_lost_is_found(tiny_llava: MultimodalModel, samples: list[Sample], what: str) -> None:
    with running(tiny_llava, {"a": always(tiny_llava)}) as engine:
        engine.probe().result(SOON)
        if what == "generate":
            wrapped = tiny_llava.hf.__dict__["generate"]
            tiny_llava.hf.generate = type(tiny_llava.hf).generate.__get__(tiny_llava.hf)
        else:
            owner = tiny_llava.hf if what == "model" else tiny_llava.layers[3]
            owner._forward_hooks.clear()
        with pytest.raises(AttachError):
            engine.probe().result(SOON)
        with pytest.raises(EngineClosed):
            ask(engine, tiny_llava, samples[3])
        assert "not seen to act" in str(engine.status().closed)
        if what == "generate":
            del tiny_llava.hf.generate
            assert wrapped is not None
    assert count_hooks(tiny_llava.hf) == 0


@pytest.mark.parametrize("hook", ["_forward_pre_hooks", "_forward_hooks"])
def test_no_answer_leaves_if_the_hooks_were_lost_since(
    tiny_llava: MultimodalModel, samples: list[Sample], hook: str
) -> None:
    with running(tiny_llava, {"a": always(tiny_llava)}) as engine:
        assert ask(engine, tiny_llava, samples[0], ("a",)).result(SOON).tokens == 12
        getattr(tiny_llava.hf, hook).clear()
        ticket = ask(engine, tiny_llava, samples[0], ("a",))
        with pytest.raises(EngineError, match="could not be made"):
            ticket.result(SOON)
        assert "failed while answering" in str(engine.status().closed)
        with pytest.raises(EngineClosed):
            ask(engine, tiny_llava, samples[0], ("a",))
        engine.apply(2, {"a": always(tiny_llava)}).result(SOON)
        assert ask(engine, tiny_llava, samples[0], ("a",)).result(SOON).tokens == 12


def test_a_prompt_whose_gate_gives_no_number_gets_no_answer(
    tiny_llava: MultimodalModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mllmeraser.serving.engine.attached import InForce

    plain = InForce.fresh_readings

    def spoiled(self: InForce, before: Any, rows: int) -> Any:
        found = plain(self, before, rows)
        assert found is not None
        found.pooled[0, found.names.index("a")] = torch.nan
        return found

    with running(tiny_llava, {"a": always(tiny_llava)}, max_batch=3, max_wait_s=FULL) as engine:
        monkeypatch.setattr(InForce, "fresh_readings", spoiled)
        lost, other, free = (ask(engine, tiny_llava, samples[n], names) for n, names in enumerate([("a",)] * 2 + [()]))
        with pytest.raises(EngineError, match="could not read this prompt"):
            lost.result(SOON)
        assert [other.result(SOON).tokens, free.result(SOON).tokens] == [12, 12]


def test_many_changes_in_a_row_all_come_into_force(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    plan = always(tiny_llava)
    with running(tiny_llava) as engine:
        futures = [engine.apply(2 + n, {f"e{k}": plan for k in range(n % 3)}) for n in range(6)]
        assert [future.result(SOON).version for future in futures] == list(range(2, 8))
        ticket = ask(engine, tiny_llava, samples[0], ("e0", "e1"))
        assert ticket.result(SOON).tokens == 12
        assert ticket.version == 7
    assert count_hooks(tiny_llava.hf) == 0
