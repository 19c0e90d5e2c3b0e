"""Every route of the schema under generated input: refusals are 4xx, never 5xx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from server_kit import NoFitter, Running, running

from mllmeraser.models.model import MultimodalModel

EXAMPLES = 12


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("fuzz") / "ledger.db"
    with running(tiny_llava, path, NoFitter(), max_tokens=4, request_seconds=20) as found:
        yield found


def test_no_input_breaks_the_server(server):
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    headers = {"authorization": f"Bearer {server.keys['admin']}"}
    tried: Counter[str] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def one(case):
            response = case.call(headers=headers, timeout=60)
            tried[case.operation.label] += 1
            assert response.status_code < 500, (case.operation.label, case.body, response.text)
            if response.status_code >= 400:
                assert set(response.json()) == {"error"}

        one()
    assert len(tried) >= 27 and min(tried.values()) >= 1, tried


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": 1e999}', b"\xff\xfe", b"{" * 5000])
def test_what_is_no_json_is_refused(server, body):
    headers = {"content-type": "application/json"}
    with server.http("client") as client:
        response = client.post("/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == 400 and set(response.json()) == {"error"}
