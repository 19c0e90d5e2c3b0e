"""OpenAI's own client, a shipped model, a person forgotten: images and text, streaming, forget and suspend.

The page does the same on the other shipped model (`test_page_real.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from server_kit import Running, asked, png, running, wait_for

from mllmeraser.api.serving import Fitting
from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.models.loading import load_model
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import request_pictures
from mllmeraser.samples import Sample

pytestmark = [pytest.mark.embedded, pytest.mark.slow]
PERSON = "003"


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark("portraits:dev")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("openai") / "ledger.db"
    with running(load_model("embedded:qwen2.5-vl"), path, Fitting(), model_name="qwen2.5-vl") as found:
        yield found


def questions(benchmark: Benchmark, key: str) -> list[Sample]:
    """Open questions never fitted on, three over pictures and three by name."""
    rows = [
        s
        for s in [*benchmark.samples("test"), *benchmark.samples("retain_heldout")]
        if s.subject == key and s.task == "generation"
    ]
    return [s for s in rows if s.image is not None][:3] + [s for s in rows if s.image is None][:3]


def ask(client: Any, model: str, sample: Sample, *, stream: bool = False) -> str:
    messages = asked(sample.prompt, sample.image)
    if not stream:
        return str(client.chat.completions.create(model=model, messages=messages).choices[0].message.content)
    chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def right(samples: list[Sample], answers: list[str]) -> int:
    """How many answers hold the fact."""
    return sum(any(word.lower() in a.lower() for word in s.keywords) for s, a in zip(samples, answers, strict=True))


def test_a_person_is_forgotten_from_one_call_to_the_next(server, benchmark):
    client, model = server.openai(), server.server.settings.model_name
    assert [found.id for found in client.models.list()] == [model]
    about, others = questions(benchmark, PERSON), questions(benchmark, "050")
    before = [ask(client, model, sample) for sample in about]
    assert right(about, before) >= 5
    assert [ask(client, model, sample, stream=True) for sample in about] == before
    known = [ask(client, model, sample) for sample in others]
    with server.http() as admin:
        pictures = request_pictures(World("dev"), PERSON, 4)
        files = [("images", (f"{i}.png", png(picture), "image/png")) for i, picture in enumerate(pictures)]
        data = {"name": "case-1", "person": benchmark.names[PERSON][0]}
        at = f"/v1/erasures/{admin.post('/v1/erasures', data=data, files=files).json()['id']}"
        stages = set()

        def done() -> Any:
            entry = admin.get(at).json()
            stages.add((entry["progress"] or {"stage": "none"})["stage"].partition(":")[0])
            return entry if entry["state"] in ("verified", "checks_failed") or entry["failure"] else None

        entry = wait_for(done, 280)
        assert entry["passed"], [check for check in entry["scores"]["checks"] if not check["passed"]]
        assert {"fit", "verify"} <= stages
        assert admin.post(f"{at}/activate").json()["in_force"]
        after = [ask(client, model, sample) for sample in about]
        assert right(about, after) == 0 and all("know" in answer for answer in after)
        assert [ask(client, model, sample, stream=True) for sample in about] == after
        assert [ask(client, model, sample) for sample in others] == known
        admin.post(f"{at}/suspend", json={"reason": "to see that it comes back"})
        assert [ask(client, model, sample) for sample in about] == before
