"""Routes of admins: audit chain, servers, keys, erasers from elsewhere, and answers before and after."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from mllmeraser.erasure.artifact.eraser import CONFIG_FILE, TENSOR_FILE
from mllmeraser.erasure.artifact.manifest import EraserConfig
from mllmeraser.samples.errors import InputError
from mllmeraser.serving.engine import Busy, EngineError, Sampling, Ticket
from mllmeraser.serving.http.answers import chooser, refusal_of
from mllmeraser.serving.http.dialogue import MESSAGES, Message, prompt_of
from mllmeraser.serving.http.erasures import Body
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.views import event_json, to_json
from mllmeraser.serving.ledger import Entry, Scope, erasers
from mllmeraser.serving.ledger.check import parse_head

#: What the read layers of the pooling `subject` read, first layer first (see `steering.plan.SUBJECT_SITES`).
SUBJECT_PARTS = ("name", "question", "face")


class NewKey(Body):
    """A key to make."""

    label: Annotated[str, Field(min_length=1, max_length=63)]
    scope: Scope = "client"
    tenant: Annotated[str, Field(min_length=1, max_length=63)] | None = None


class Question(Body):
    """A question to answer twice: without erasers, and with those of an ordinary request."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 64


def routes(server: Server) -> APIRouter:
    """The admins' routes."""
    router = APIRouter(prefix="/v1", tags=["admin"])
    ledger = server.ledger

    @router.get("/audit")
    async def audit(
        request: Request, after: Annotated[int, Field(ge=0)] = 0, limit: Annotated[int, Field(ge=1, le=1000)] = 200
    ) -> dict[str, Any]:
        """Events of the audit chain, oldest first."""
        await server.gatekeeper.admit(request, "admin")
        events = await run_in_threadpool(lambda: ledger.events(after=after, limit=limit))
        seq, head = await run_in_threadpool(ledger.head)
        return {"data": [event_json(event) for event in events], "head": {"seq": seq, "hash": head}}

    @router.get("/audit/verify")
    async def verify(request: Request, kept: Annotated[str | None, Field(max_length=100)] = None) -> dict[str, Any]:
        """Check the whole chain. `kept` is an earlier head, SEQ:HASH, which reveals records cut off at the end."""
        await server.gatekeeper.admit(request, "admin")
        head = None if kept is None else parse_head(kept)
        report = await run_in_threadpool(lambda: ledger.verify_chain(kept=head))
        at = {"seq": report.head[0], "hash": report.head[1]}
        return {"ok": report.ok, "records": report.events, "head": at, "bad": report.bad, "reason": report.why}

    @router.get("/servers")
    async def servers(request: Request) -> dict[str, Any]:
        """Servers on this ledger with the version each has in force; for this server also its fault."""
        await server.gatekeeper.admit(request, "admin")
        rows, fault = await run_in_threadpool(ledger.servers), server.sync.fault()
        return {
            "data": [row.as_dict() for row in rows],
            "this": server.name,
            "version": server.sync.version,
            "fault": None if fault is None else fault.details,
        }

    @router.get("/keys")
    async def keys(request: Request) -> dict[str, Any]:
        """All keys, without their secrets."""
        await server.gatekeeper.admit(request, "admin")
        return {"data": [record.as_dict() for record in await run_in_threadpool(ledger.keys)]}

    @router.post("/keys", status_code=201)
    async def add(request: Request, body: NewKey) -> dict[str, Any]:
        """Make a key; only this response shows its secret."""
        principal = await server.gatekeeper.admit(request, "admin")
        record, secret = await run_in_threadpool(
            lambda: ledger.add_key(label=body.label, scope=body.scope, tenant=body.tenant, by=principal.label)
        )
        return {**record.as_dict(), "secret": secret}

    @router.delete("/keys/{id}")
    async def revoke(request: Request, id: str) -> dict[str, Any]:
        """Revoke a key."""
        principal = await server.gatekeeper.admit(request, "admin")
        return (await run_in_threadpool(lambda: ledger.revoke_key(id, by=principal.label))).as_dict()

    @router.post("/erasers", status_code=201)
    async def add_eraser(
        request: Request,
        name: Annotated[str, Form(max_length=63)],
        config: Annotated[UploadFile, File(description=CONFIG_FILE)],
        tensors: Annotated[UploadFile, File(description=TENSOR_FILE)],
        tenant: Annotated[str | None, Form(max_length=63)] = None,
        default: Annotated[bool, Form()] = True,
    ) -> dict[str, Any]:
        """Add an eraser made elsewhere to the ledger. It is not in force until it is activated."""
        principal = await server.gatekeeper.admit(request, "admin")
        files = {CONFIG_FILE: await config.read(), TENSOR_FILE: await tensors.read()}

        def added() -> Entry:
            artifact = erasers.artifact_from_files(files)
            return erasers.add(ledger, artifact, name, by=principal.label, tenant=tenant or None, default=default)

        return to_json(await run_in_threadpool(added), {})

    @router.post("/compare")
    async def compare(request: Request, body: Question) -> dict[str, Any]:
        """One question answered without erasers and with those in force, with the gate readings."""
        principal = await server.gatekeeper.admit(request, "admin")
        server.check_ready()
        model, seconds = server.settings.model_name, server.settings.request_seconds
        choose = chooser(server, principal, body.model or model)
        prompt = await run_in_threadpool(prompt_of, body.messages, server.model, server.settings)
        sampling = Sampling(max_tokens=min(body.max_tokens, server.settings.max_tokens))
        details = {"prompt": "not recorded"}
        await run_in_threadpool(lambda: ledger.audit("compared", by=principal.label, details=details))
        try:
            bare = server.engine.submit(prompt, sampling, lambda view: frozenset(), deadline_s=seconds)
            chosen = server.engine.submit(prompt, sampling, choose, deadline_s=seconds)
            before, after = await run_in_threadpool(lambda: (bare.result(seconds), chosen.result(seconds)))
        except Busy as error:
            raise refusal_of(error) from None
        except (EngineError, InputError) as error:
            raise Refusal(400 if isinstance(error, InputError) else 503, str(error)) from error
        return {
            "version": chosen.version,
            "model": model,
            "before": before.text.strip(),
            "after": after.text.strip(),
            "erasers": _readings(server, chosen),
        }

    return router


def _readings(server: Server, ticket: Ticket) -> list[dict[str, Any]]:
    """Gate readings, without layers that had nothing to read, such as faces in a prompt without a picture.

    `reads` says what each layer of a gate of the pooling `subject` reads.
    """
    current = server.sync.current
    digests = {} if current is None else {eraser.name: eraser.artifact_digest for eraser in current.erasers}
    configs = {name: server.store.load(digests[name]).config for name in ticket.gates or {} if name in digests}
    return [
        {
            "name": name,
            "amplitude": gate.amplitude,
            "pooled": gate.pooled if math.isfinite(gate.pooled) else None,
            "threshold": configs[name].threshold or 0.0 if name in configs else 0.0,
            "reads": _parts(configs[name]) if name in configs else {},
            "layers": {str(layer): score for layer, score in gate.layers.items() if math.isfinite(score)},
        }
        for name, gate in (ticket.gates or {}).items()
    ]


def _parts(config: EraserConfig) -> dict[str, str]:
    if config.policy.pooling != "subject":
        return {}
    return {str(layer): part for layer, part in zip(sorted(config.read_layers), SUBJECT_PARTS, strict=True)}
