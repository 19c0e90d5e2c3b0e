"""``/docs``: the routes, to read and to try. All files come from this server."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

OPEN = ("/healthz", "/readyz")
"""Routes without a key."""
ABOUT = """
OpenAI's routes for clients, and routes for those who take care of requests to forget. Press *Authorize* and give an API
key (`mk_...`). The states of an erasure, and who may do what, are explained in `docs/serving.md` of the package.
"""
FILES = Path(__file__).parent / "docs_page"


def install(app: FastAPI) -> None:
    """Add the page. Its scripts are those of Swagger UI in the package `fastapi-offline`."""
    found = find_spec("fastapi_offline")
    assert found is not None and found.origin is not None, "a dependency of the extra `serve`"
    app.mount("/docs/ui", StaticFiles(directory=Path(found.origin).parent / "static"), name="docs")
    for path, name in (("/docs", "index.html"), ("/docs/start.js", "start.js")):
        app.add_api_route(path, _file(name), include_in_schema=False)


def describe(app: FastAPI) -> None:
    """Have ``/openapi.json`` say where a key is needed."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=ABOUT, routes=app.routes)
            made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"key": []}]
            for path in OPEN:
                made["paths"][path]["get"]["security"] = []
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]


def _file(name: str) -> Any:
    async def file() -> FileResponse:
        return FileResponse(FILES / name)

    return file
