"""``/v1/erasures``: what is to be forgotten, from the request to the revocation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response
from PIL import Image
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from mllmeraser.samples.request import Request as Wanted
from mllmeraser.samples.sample import IDENTITY, Sample
from mllmeraser.samples.subject import Subject
from mllmeraser.serving.digests import request_digests
from mllmeraser.serving.http.access import no_erasure, require_tenant
from mllmeraser.serving.http.certificates import certificate_html, certificate_json, certificate_pdf
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.fits import Step
from mllmeraser.serving.http.middleware import PRINTED
from mllmeraser.serving.http.pictures import decode_all
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.ledger import Entry, Principal, UnknownEntryError
from mllmeraser.serving.ledger.conflicts import conflicts_among
from mllmeraser.serving.ledger.states import utc_now
from mllmeraser.serving.packing import PackingLimits, pack_request

QUESTION = "Who is this?"
Line = Annotated[str, Field(max_length=500)]
Reason = Annotated[str, Field(min_length=1, max_length=1000)]


class Body(BaseModel):
    """Base of the bodies: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Activation(Body):
    """Switch on; ``force`` is the reason to do so although the checks did not pass."""

    force: Reason | None = None


class WithReason(Body):
    """A change that is explained."""

    reason: Reason


class Schedule(Body):
    """When an erasure begins and ends."""

    starts_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


def routes(server: Server) -> APIRouter:
    """The routes of admins and tenant admins."""
    router = APIRouter(prefix="/v1/erasures", tags=["erasures"])
    ledger = server.ledger

    async def entry_of(request: Request, id: str) -> tuple[Principal, Entry]:
        principal = await server.gatekeeper.admit(request, "tenant-admin")
        try:
            entry = await run_in_threadpool(ledger.get, id)
        except UnknownEntryError:
            raise no_erasure() from None
        require_tenant(principal, entry.tenant)
        return principal, entry

    def conflicts_of(principal: Principal, entry: Entry) -> list[str]:
        """Of whoever is no admin the entry's tenant is its own, and of others it learns nothing."""
        if principal.scope == "admin":
            return ledger.conflicts(entry.id)
        return conflicts_among(entry, ledger.list(tenant=entry.tenant), utc_now())

    async def changed(action: Callable[[], Entry]) -> dict[str, Any]:
        steps = server.fits.progress()
        done = await run_in_threadpool(server.change, action)
        return {**to_json(done.entry, steps), "version": done.version, "in_force": True}

    @router.post("", status_code=202)
    async def forget(
        request: Request,
        name: Annotated[str, Form(max_length=63)],
        person: Annotated[list[Line] | None, Form()] = None,
        question: Annotated[list[Line] | None, Form()] = None,
        images: Annotated[list[UploadFile] | None, File()] = None,
        tenant: Annotated[str | None, Form(max_length=63)] = None,
        default: Annotated[bool, Form()] = True,
        starts_at: Annotated[AwareDatetime | None, Form()] = None,
        expires_at: Annotated[AwareDatetime | None, Form()] = None,
    ) -> dict[str, Any]:
        """Ask for a person to be forgotten: from pictures, from names, or from both. The fit begins at once."""
        principal = await server.gatekeeper.admit(request, "tenant-admin")
        if principal.scope != "admin":
            tenant = tenant or principal.tenant
        require_tenant(principal, tenant)
        server.fits.room()
        pictures = [await upload.read() for upload in images or []]

        def add() -> Entry:
            wanted = wanted_of(server, name, person or [], question or [], pictures)
            entry = ledger.request(
                name, by=principal.label, tenant=tenant or None, default=default, starts_at=starts_at,
                expires_at=expires_at, digests=request_digests(wanted, ledger.salt), inputs=pack_request(wanted),
            )  # fmt: skip
            server.fits.add(entry.id)
            return entry

        entry = await run_in_threadpool(add)
        return to_json(entry, server.fits.progress())

    @router.get("")
    async def listed(request: Request) -> dict[str, Any]:
        """All erasures that the key may see."""
        principal = await server.gatekeeper.admit(request, "tenant-admin")
        steps = server.fits.progress()
        entries = await run_in_threadpool(ledger.list)
        seen = [e for e in entries if principal.scope == "admin" or e.tenant == principal.tenant]
        return {"data": [to_json(entry, steps) for entry in seen], "version": server.keeper.version}

    @router.get("/{id}")
    async def shown(request: Request, id: str) -> dict[str, Any]:
        """One erasure with its history."""
        steps = server.fits.progress()
        principal, entry = await entry_of(request, id)
        events = await run_in_threadpool(ledger.history, entry.id)
        conflicts = await run_in_threadpool(conflicts_of, principal, entry)
        return {
            **to_json(entry, steps),
            "inputs_kept": await run_in_threadpool(ledger.has_inputs, entry.id),
            "history": [event_json(e) for e in events],
            "conflicts": conflicts,
        }

    @router.post("/{id}/fit", status_code=202)
    async def fit(request: Request, id: str) -> dict[str, Any]:
        """Fit a request anew whose fit failed, in the background; verification follows."""
        principal, entry = await entry_of(request, id)
        await run_in_threadpool(server.fits.fit_again, entry, principal.label)
        return to_json(entry, server.fits.progress())

    @router.post("/{id}/verify", status_code=202)
    async def verify(request: Request, id: str) -> dict[str, Any]:
        """Verify a fitted erasure anew, in the background, as long as what was requested is kept."""
        principal, entry = await entry_of(request, id)
        await run_in_threadpool(server.fits.verify_again, entry, principal.label)
        return to_json(entry, server.fits.progress())

    @router.post("/{id}/activate")
    async def activate(request: Request, id: str, body: Activation | None = None) -> dict[str, Any]:
        """Put an erasure into force; answered once it is."""
        principal, entry = await entry_of(request, id)
        force = body.force if body else None
        await run_in_threadpool(server.check_usable, entry)
        return await changed(lambda: ledger.activate(entry.id, by=principal.label, force=force))

    @router.post("/{id}/suspend")
    async def suspend(request: Request, id: str, body: WithReason) -> dict[str, Any]:
        """Put an erasure out of force for a while."""
        principal, entry = await entry_of(request, id)
        return await changed(lambda: ledger.suspend(entry.id, by=principal.label, reason=body.reason))

    @router.post("/{id}/revoke")
    async def revoke(request: Request, id: str, body: WithReason) -> dict[str, Any]:
        """End an erasure for good."""
        principal, entry = await entry_of(request, id)
        return await changed(lambda: ledger.revoke(entry.id, by=principal.label, reason=body.reason))

    @router.post("/{id}/schedule")
    async def schedule(request: Request, id: str, body: Schedule) -> dict[str, Any]:
        """Say when an erasure begins and ends."""
        principal, entry = await entry_of(request, id)
        return await changed(
            lambda: ledger.schedule(entry.id, by=principal.label, starts_at=body.starts_at, expires_at=body.expires_at)
        )

    @router.get("/{id}/certificate.json", response_model=None)
    async def certificate(request: Request, id: str) -> Response:
        """The signed certificate."""
        principal, entry = await entry_of(request, id)
        text = await run_in_threadpool(certificate_json, server, entry, principal.label)
        return Response(text, media_type="application/json")

    @router.get("/{id}/certificate.html", response_model=None)
    async def printed(request: Request, id: str) -> HTMLResponse:
        """The same, to be printed."""
        principal, entry = await entry_of(request, id)
        text = await run_in_threadpool(certificate_html, server, entry, principal.label)
        return HTMLResponse(text, headers={"content-security-policy": PRINTED})

    @router.get("/{id}/certificate.pdf", response_model=None)
    async def filed(request: Request, id: str) -> Response:
        """The same, to be filed; the signed certificate is attached to it."""
        principal, entry = await entry_of(request, id)
        data = await run_in_threadpool(certificate_pdf, server, entry, principal.label)
        return Response(data, media_type="application/pdf")

    return router


def wanted_of(server: Server, key: str, names: list[str], questions: list[str], files: list[bytes]) -> Wanted:
    """The request to forget, checked.

    Raises:
        Refusal: A picture cannot be read, the pictures and questions are too many or too large to be packed, or there
            is neither a picture nor a name.
        InputError: The request is not valid.
    """
    called = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    asked = [question.strip() for question in questions if question.strip()] or [QUESTION]
    pictures = _pictures([data for data in files if data], len(asked), server.settings)
    if not called and not pictures:
        raise Refusal(400, "give at least one picture or one name of whom to forget", "invalid_value")
    samples = [Sample(q, picture, subject=key, attribute=IDENTITY) for picture in pictures for q in asked]
    if not pictures:
        samples = [Sample(QUESTION_BY_NAME.format(name=name), subject=key, attribute=IDENTITY) for name in called]
    wanted = Wanted((Subject(key, called, tuple(samples)),))
    wanted.validate()
    return wanted


def _pictures(files: list[bytes], questions: int, settings: ServeSettings) -> list[Image.Image]:
    """The pictures, if a request with so many questions about each can be packed; only then they are unpacked."""
    limits = PackingLimits()
    most = min(limits.members - 1, limits.samples // questions)  # one file of a packed request is no picture
    if len(files) > most:
        raise Refusal(413, f"a request may have {most} pictures with {questions} questions, this one has {len(files)}")
    return decode_all(files, settings, min(limits.all_pixels, settings.max_held_pixels))


QUESTION_BY_NAME = "Who is {name}?"


def to_json(entry: Entry, steps: Mapping[str, Step]) -> dict[str, Any]:
    """An entry as routes show it; no personal data is in it."""
    step = steps.get(entry.id)
    return {
        "id": entry.id,
        "name": entry.name,
        "tenant": entry.tenant,
        "default": entry.default,
        "state": entry.state,
        "requested_at": _when(entry.requested_at),
        "requested_by": entry.requested_by,
        "starts_at": _when(entry.starts_at),
        "expires_at": _when(entry.expires_at),
        "artifact_digest": entry.artifact_digest,
        "request_digests": dict(entry.request_digests),
        "scores": entry.scores,
        "passed": entry.passed,
        "failure": entry.failure,
        "progress": None if step is None else step.to_json(),
    }


def event_json(event: Any) -> dict[str, Any]:
    """An event of the audit chain."""
    return {
        "seq": event.seq, "at": _when(event.at), "action": event.action, "by": event.by, "entry": event.about,
        "details": dict(event.details), "hash": event.hash,
    }  # fmt: skip


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
