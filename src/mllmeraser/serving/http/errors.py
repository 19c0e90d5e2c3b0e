"""Errors as OpenAI's clients expect them: ``{"error": {"message", "type", "code"}}``."""

from __future__ import annotations

import re
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mllmeraser.samples.errors import InputError, MLLMEraserError
from mllmeraser.serving.ledger import LedgerError, NameTakenError, TransitionError, UnknownEntryError

log = structlog.get_logger("mllmeraser.http")
NOT_NOW = "nothing is answered now"
LEDGER_FAILED = "the ledger could not do this now"
TAKEN = "this label cannot be used: choose another"
PASSWORD = re.compile(r"(?<=password=)[^&\s]+", re.IGNORECASE)
"""In the query of a database's address; one before the host is left out where such errors are made."""
TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    409: "conflict_error", 413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error",
    503: "unavailable_error", 504: "timeout_error",
}  # fmt: skip


class Refusal(Exception):
    """A request that is refused, with its status and one line for the caller."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        retry_after: float | None = None,
        details: str | None = None,
    ) -> None:
        """``retry_after`` in seconds, for requests that may be repeated. ``details`` is what admins are told instead.

        A 503 that gives no details quotes an error, which may name erasers of any tenant: its message becomes the
        details.
        """
        if status == 503 and details is None:
            message, details = NOT_NOW, message
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after = status, message, code, retry_after
        self.details = details


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


def status_of(error: MLLMEraserError) -> int:
    """HTTP status of one of the package's own errors: what is no fault of the request is 503."""
    if isinstance(error, UnknownEntryError):
        return 404
    if isinstance(error, (TransitionError, NameTakenError)):
        return 409
    return 400 if isinstance(error, InputError) else 503


def answer(request: Request, error: Refusal | MLLMEraserError) -> JSONResponse:
    """What the caller is told of an error. Details are for admins; those of a 503 are logged too."""
    refusal = error if isinstance(error, Refusal) else _refusal_of(error)
    message, details = refusal.message, noted(refusal, getattr(request.state, "request_id", None))
    principal = getattr(request.state, "principal", None)
    if details is not None and principal is not None and principal.scope == "admin":
        message = details
    return response(refusal.status, message, refusal.code, refusal.retry_after)


def noted(refusal: Refusal, id: str | None) -> str | None:
    """The details of a refusal, without passwords; those of a 503 are logged, with the id of what was refused."""
    if refusal.details is None:
        return None
    details = PASSWORD.sub("***", refusal.details)
    if refusal.status == 503:
        log.warning("unavailable", id=id, reason=details)
    return details


def _refusal_of(error: MLLMEraserError) -> Refusal:
    status = status_of(error)
    if isinstance(error, NameTakenError):  # perhaps by another tenant's erasure
        return Refusal(status, TAKEN, details=str(error))
    if status == 503:
        return Refusal(status, LEDGER_FAILED if isinstance(error, LedgerError) else NOT_NOW, details=str(error))
    return Refusal(status, str(error))


def install(app: FastAPI) -> None:
    """Give every error its JSON form."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(MLLMEraserError)
    async def known_error(request: Request, error: MLLMEraserError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0] if error.errors() else {"loc": (), "msg": "not valid"}
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return response(400, f"{place or 'request'}: {first['msg']}", "invalid_value")

    @app.exception_handler(HTTPException)
    async def known(_: Request, error: HTTPException) -> JSONResponse:
        return response(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        return response(500, f"internal error ({type(error).__name__}); nothing was answered")
