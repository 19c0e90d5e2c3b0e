"""Errors in the format of OpenAI's clients: ``{"error": {"message", "type", "code"}}``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mllmeraser.samples.errors import InputError, MLLMEraserError
from mllmeraser.serving.ledger import LedgerError, NameTakenError, TransitionError, UnknownEntryError

log = structlog.get_logger("mllmeraser.http")
NOT_NOW = "the server refuses all requests now"
LEDGER_FAILED = "the ledger is not available now"
TAKEN = "this label cannot be used: choose another"
PASSWORD = re.compile(r"(?<=password=)[^&\s]+", re.IGNORECASE)
"""Password in the query of a database URL; the ledger's errors already omit one before the host."""
TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 409: "conflict_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "unavailable_error", 504: "timeout_error",
}  # fmt: skip


@dataclass(eq=False)
class Refusal(Exception):
    """A refused request: HTTP status, one line for the caller, and its code in the JSON body.

    The request may be repeated after `retry_after` seconds. Admins see `details` instead of the message. The message of
    a 503 without details quotes an error, which may name erasers of any tenant: it becomes the details.
    """

    status: int
    message: str
    code: str | None = None
    retry_after: float | None = None
    details: str | None = None

    def __post_init__(self) -> None:
        """Keep the message of an unexplained 503 for admins."""
        if self.status == 503 and self.details is None:
            self.message, self.details = NOT_NOW, self.message
        super().__init__(self.message)


def body_of(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """The JSON body of an error."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": " ".join(message.split()), "type": kind, "param": None, "code": code}}


def response(status: int, message: str, code: str | None = None, retry_after: float | None = None) -> JSONResponse:
    """The response of an error."""
    headers = {} if retry_after is None else {"retry-after": str(max(1, round(retry_after)))}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body_of(status, message, code), status, headers=headers)


def answer(request: Request, error: Refusal | MLLMEraserError) -> JSONResponse:
    """Respond to an error. Only admins see its details; details of a 503 are also logged."""
    refusal = error if isinstance(error, Refusal) else _refusal_of(error)
    message, details = refusal.message, noted(refusal, getattr(request.state, "request_id", None))
    principal = getattr(request.state, "principal", None)
    if details is not None and principal is not None and principal.scope == "admin":
        message = details
    return response(refusal.status, message, refusal.code, refusal.retry_after)


def noted(refusal: Refusal, id: str | None) -> str | None:
    """Return the details of a refusal without passwords; log those of a 503 with the id of the request."""
    if refusal.details is None:
        return None
    details = PASSWORD.sub("***", refusal.details)
    if refusal.status == 503:
        log.warning("unavailable", id=id, reason=details)
    return details


def _refusal_of(error: MLLMEraserError) -> Refusal:
    if isinstance(error, UnknownEntryError):
        return Refusal(404, str(error))
    if isinstance(error, NameTakenError):  # another tenant may have the name
        return Refusal(409, TAKEN, details=str(error))
    if isinstance(error, TransitionError):
        return Refusal(409, str(error))
    if isinstance(error, InputError):
        return Refusal(400, str(error))
    return Refusal(503, LEDGER_FAILED if isinstance(error, LedgerError) else NOT_NOW, details=str(error))


def _invalid(error: RequestValidationError) -> str:
    """Where a request is not valid, and why: of alternatives the one that the value comes closest to."""
    found = error.errors() or [{"loc": (), "msg": "not valid"}]
    field = found[0]["loc"][:2]
    worst = max((one for one in found if one["loc"][:2] == field), key=lambda one: len(one["loc"]))
    parts = (str(part) for part in worst["loc"] if part != "body")
    place = ".".join(part for part in parts if re.fullmatch(r"\w+", part))  # without pydantic's names of types
    return f"{place or 'request'}: {worst['msg']}"


def install(app: FastAPI) -> None:
    """Return every error as JSON."""

    @app.exception_handler(Refusal)
    @app.exception_handler(MLLMEraserError)
    async def expected(request: Request, error: Refusal | MLLMEraserError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return response(400, _invalid(error), "invalid_value")

    @app.exception_handler(HTTPException)
    async def from_framework(_: Request, error: HTTPException) -> JSONResponse:
        return response(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return response(500, f"internal error ({type(error).__name__}); nothing was answered")
