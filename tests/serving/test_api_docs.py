"""``/docs`` and ``/openapi.json``: complete, without anything from elsewhere, and in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from server_kit import NoFitter, Running, running

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.http.api_docs import FILES, OPEN
from mllmeraser.serving.http.forms import FIELDS

pytest_plugins = ["browser_kit"]


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_llava, tmp_path_factory.mktemp("docs") / "ledger.db", NoFitter()) as found:
        yield found


def test_all_files_come_from_this_server(server: Running) -> None:
    with server.http(None) as client:
        page = client.get("/docs")
        assert page.status_code == 200 and "script-src 'self'" in page.headers["content-security-policy"]
        wanted = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(wanted) == 5 and not [url for url in wanted if "//" in url or url.startswith("/")]
        assert [client.get(f"/{url}").status_code for url in wanted] == [200] * 5
    assert "http" not in (FILES / "start.js").read_text(encoding="utf-8")


def test_each_route_says_what_it_is_and_whether_it_needs_a_key(server: Running) -> None:
    with server.http(None) as client:
        schema = client.get("/openapi.json").json()
        assert schema["security"] == [{"key": []}]
        for path, routes in schema["paths"].items():
            for method, route in routes.items():
                assert route.get("description"), (path, method)
                without_a_key = client.request(method, path.replace("{id}", "0" * 32)).status_code
                assert (without_a_key == 401) == (route.get("security") != []) == (path not in OPEN), (path, method)


def test_the_request_to_forget_is_documented(server: Running) -> None:
    with server.http(None) as client:
        schema = client.get("/openapi.json").json()
    route = schema["paths"]["/v1/erasures"]["post"]
    form = schema["components"]["schemas"]["Body_forget_v1_erasures_post"]["properties"]
    assert set(form) == set(FIELDS) and all(field.get("description") for field in form.values())
    assert "curl" in route["description"] and "-F images=@" in route["description"]
    used = set(re.findall(r'-F "?([a-z_]+)=', route["description"]))
    assert used and used <= set(FIELDS)


def test_without_the_page_there_is_none(tiny_llava: MultimodalModel, tmp_path: Any) -> None:
    with running(tiny_llava, tmp_path / "l.db", NoFitter(), page=False) as found, found.http(None) as client:
        assert client.get("/docs").status_code == client.get("/docs/ui/swagger-ui.css").status_code == 404


@pytest.mark.browser
@pytest.mark.timeout(240)
def test_a_route_can_be_tried(server: Running, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def one(selector: str) -> Any:
        return WebDriverWait(browser, 30, 0.1).until(lambda _: browser.find_elements("css selector", selector))[0]

    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(f"{server.url}/docs")
    one(".btn.authorize").click()
    one(".auth-container input").send_keys(server.keys["client"])
    one(".auth-btn-wrapper button[type=submit]").click()
    one(".btn-done").click()
    one("#operations-client-models_v1_models_get .opblock-summary-control").click()
    one("#operations-client-models_v1_models_get .execute").click()
    told = one("#operations-client-models_v1_models_get .live-responses-table tbody .response-col_status").text
    assert told.startswith("200")
    assert "tiny" in one("#operations-client-models_v1_models_get .live-responses-table .highlight-code").text
    faults = [line["message"] for line in browser.get_log("browser") if line["source"] != "network"]
    assert faults == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert asked and all(url.startswith((server.url, "data:")) for url in asked), asked
