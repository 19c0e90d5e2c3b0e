"""``/v1/erasures``: from the request to forget a person or something else to its revocation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from PIL import Image
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from mllmeraser.samples.folders import Card, subject_of
from mllmeraser.samples.names import clean_name
from mllmeraser.samples.request import Request as ErasureRequest
from mllmeraser.samples.sample import IDENTITY, Sample
from mllmeraser.samples.subject import PERSON, Kind, Subject
from mllmeraser.serving.http import forms
from mllmeraser.serving.http.access import no_erasure, require_tenant
from mllmeraser.serving.http.certificates import FORMATS, signed_certificate
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.middleware import PRINTED
from mllmeraser.serving.http.pictures import decode_all
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.http.views import event_json, to_json
from mllmeraser.serving.ledger import Entry, Principal, UnknownEntryError
from mllmeraser.serving.ledger.conflicts import conflicts_among
from mllmeraser.serving.ledger.states import State, utc_now
from mllmeraser.serving.packing import PackingLimits, pack_request, request_digests

FORGET = "Request to forget a person or something else, by pictures, names, or both. The fit begins at once."
NOTHING_GIVEN = {
    True: "give at least one picture or one name of the person to forget",
    False: "give at least one picture, name or question of what to forget",
}
"""Whether it is a person -> why its request is refused."""
QUESTION = "Who is this?"
QUESTION_BY_NAME = "Who is {name}?"
Reason = Annotated[str, Field(min_length=1, max_length=1000)]


class Body(BaseModel):
    """Base of the request bodies; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class Activation(Body):
    """Activate; ``force`` is the reason to do so without a passed verification."""

    force: Reason | None = None


class WithReason(Body):
    """A change with its reason."""

    reason: Reason


class Schedule(Body):
    """Start and end of an erasure."""

    starts_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


class NewNote(Body):
    """A note on an erasure: one line, and no place for personal data, for it is kept for good."""

    text: Reason


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
        """Conflicts visible to `principal`; non-admins see their own tenant only."""
        if principal.scope == "admin":
            return ledger.conflicts(entry.id)
        return conflicts_among(entry, ledger.list(tenant=entry.tenant), utc_now())

    async def changed(action: Callable[[], Entry]) -> dict[str, Any]:
        steps = server.fits.progress()
        done = await run_in_threadpool(server.change, action)
        return {**to_json(done.entry, steps), "version": done.version, "in_force": done.in_force}

    @router.post("", status_code=202, description=f"{FORGET}\n{forms.EXAMPLE}")
    async def forget(
        request: Request,
        name: forms.Label,
        person: forms.Person = None,
        question: forms.Question = None,
        images: forms.Images = None,
        kind: forms.KindOf = PERSON,
        reply: forms.Reply = None,
        instead: forms.Instead = None,
        exact_names: forms.ExactNames = False,
        tenant: forms.Tenant = None,
        default: forms.Default = True,
        starts_at: forms.StartsAt = None,
        expires_at: forms.ExpiresAt = None,
    ) -> dict[str, Any]:
        principal = await server.gatekeeper.admit(request, "tenant-admin")
        if principal.scope != "admin":
            tenant = tenant or principal.tenant
        require_tenant(principal, tenant)
        server.fits.check_capacity()
        forms.account(await request.form())
        pictures = [await upload.read() for upload in images or [] if upload.filename]  # browsers send an empty one
        notes: list[str] = []

        def add() -> Entry:
            wanted = erasure_request(
                server, name, person or [], question or [], pictures, forms.sentence(reply, instead), exact_names,
                kind=kind, say=notes.append,
            )  # fmt: skip
            entry = ledger.request(
                name, by=principal.label, tenant=tenant or None, default=default, starts_at=starts_at,
                expires_at=expires_at, digests=request_digests(wanted, ledger.salt), inputs=pack_request(wanted),
            )  # fmt: skip
            server.fits.add(entry.id)
            return entry

        return {**to_json(await run_in_threadpool(add), server.fits.progress()), "notes": notes}

    @router.get("")
    async def list_all(
        request: Request, q: Annotated[str | None, Field(max_length=200)] = None, state: State | None = None
    ) -> dict[str, Any]:
        """All erasures that the key may see. `q` is a part of the label or the begin of the id."""
        principal = await server.gatekeeper.admit(request, "tenant-admin")
        steps = server.fits.progress()
        entries = await run_in_threadpool(lambda: ledger.list(state=state, search=q))
        visible = [e for e in entries if principal.scope == "admin" or e.tenant == principal.tenant]
        return {"data": [to_json(entry, steps) for entry in visible], "version": server.sync.version}

    @router.get("/{id}")
    async def show(request: Request, id: str) -> dict[str, Any]:
        """One erasure with its history and notes."""
        steps = server.fits.progress()
        principal, entry = await entry_of(request, id)
        events = await run_in_threadpool(ledger.history, entry.id)
        conflicts = await run_in_threadpool(conflicts_of, principal, entry)
        return {
            **to_json(entry, steps),
            "inputs_kept": await run_in_threadpool(ledger.has_inputs, entry.id),
            "history": [event_json(e) for e in events],
            "notes": [note.as_dict() for note in await run_in_threadpool(ledger.notes, entry.id)],
            "conflicts": conflicts,
        }

    @router.post("/{id}/notes", status_code=201)
    async def note(request: Request, id: str, body: NewNote) -> dict[str, Any]:
        """Add a note, which cannot be changed. The audit gets that it was added, not its text."""
        principal, entry = await entry_of(request, id)
        return (await run_in_threadpool(lambda: ledger.note(entry.id, by=principal.label, text=body.text))).as_dict()

    @router.post("/{id}/fit", status_code=202)
    async def fit(request: Request, id: str) -> dict[str, Any]:
        """Repeat a failed fit in the background; verification follows."""
        principal, entry = await entry_of(request, id)
        await run_in_threadpool(server.fits.fit_again, entry, principal.label)
        return to_json(entry, server.fits.progress())

    @router.post("/{id}/verify", status_code=202)
    async def verify(request: Request, id: str) -> dict[str, Any]:
        """Verify a fitted erasure again in the background, while its request is still kept."""
        principal, entry = await entry_of(request, id)
        await run_in_threadpool(server.fits.verify_again, entry, principal.label)
        return to_json(entry, server.fits.progress())

    @router.post("/{id}/activate")
    async def activate(request: Request, id: str, body: Activation | None = None) -> dict[str, Any]:
        """Put an erasure into force; the response comes once it is."""
        principal, entry = await entry_of(request, id)
        force = body.force if body else None
        if entry.id in server.fits.progress():
            raise Refusal(409, f"{entry.name} is being fitted or verified: wait for the result")
        await run_in_threadpool(server.check_usable, entry)
        return await changed(lambda: ledger.activate(entry.id, by=principal.label, force=force))

    @router.post("/{id}/suspend")
    async def suspend(request: Request, id: str, body: WithReason) -> dict[str, Any]:
        """Put an erasure out of force until it is activated again."""
        principal, entry = await entry_of(request, id)
        return await changed(lambda: ledger.suspend(entry.id, by=principal.label, reason=body.reason))

    @router.post("/{id}/revoke")
    async def revoke(request: Request, id: str, body: WithReason) -> dict[str, Any]:
        """End an erasure for good."""
        principal, entry = await entry_of(request, id)
        return await changed(lambda: ledger.revoke(entry.id, by=principal.label, reason=body.reason))

    @router.post("/{id}/schedule")
    async def schedule(request: Request, id: str, body: Schedule) -> dict[str, Any]:
        """Set when an erasure starts and ends."""
        principal, entry = await entry_of(request, id)
        return await changed(
            lambda: ledger.schedule(entry.id, by=principal.label, starts_at=body.starts_at, expires_at=body.expires_at)
        )

    def add_certificate(kind: str) -> None:
        @router.get(f"/{{id}}/certificate.{kind}", response_model=None)
        async def certificate(request: Request, id: str) -> Response:
            """The signed certificate in this format."""
            principal, entry = await entry_of(request, id)
            media_type, render = FORMATS[kind]
            content = await run_in_threadpool(lambda: render(signed_certificate(server, entry, principal.label)))
            headers = {"content-security-policy": PRINTED} if kind == "html" else None
            return Response(content, media_type=media_type, headers=headers)

    for kind in FORMATS:
        add_certificate(kind)
    return router


def erasure_request(
    server: Server,
    key: str,
    names: list[str],
    questions: list[str],
    files: list[bytes],
    reply: str | None = None,
    exact_names: bool = False,
    *,
    kind: Kind = PERSON,
    say: Callable[[str], None] | None = None,
) -> ErasureRequest:
    """Build the request to forget a person or thing; `say` gets a line for each part that is not used.

    Raises `Refusal` without a picture or name (of a thing: or question), and for pictures or questions that are
    unreadable, too many or too large. Raises `InputError` if the request is not valid.
    """
    spellings = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    asked = tuple(dict.fromkeys(question.strip() for question in questions if question.strip()))
    pictures = _pictures(files, max(1, len(asked)), server.settings, say)
    if not spellings and not pictures and (kind == PERSON or not asked):
        raise Refusal(400, NOTHING_GIVEN[kind == PERSON], "invalid_value")
    if kind == PERSON:
        subject = Subject(key, spellings, _of_person(key, spellings, asked, pictures), exact_names=exact_names)
    else:
        card = Card(tuple(map(clean_name, spellings)), asked, exact_names=exact_names, kind=kind)
        subject = subject_of(card, [(str(number), picture) for number, picture in enumerate(pictures)], key)
    request = ErasureRequest((subject,), reply=(reply or "").strip() or None)
    request.validate()
    return request


def _of_person(
    key: str, names: Sequence[str], questions: Sequence[str], pictures: Sequence[Image.Image]
) -> tuple[Sample, ...]:
    """Every question over every picture; without pictures, who each name is."""
    asked = questions or [QUESTION]
    if not pictures:
        return tuple(Sample(QUESTION_BY_NAME.format(name=n), subject=key, attribute=IDENTITY) for n in names)
    return tuple(Sample(q, picture, subject=key, attribute=IDENTITY) for picture in pictures for q in asked)


def _pictures(
    files: list[bytes], questions: int, settings: ServeSettings, say: Callable[[str], None] | None
) -> list[Image.Image]:
    """Decode the pictures, after checking that a request with so many questions about each can be packed."""
    limits = PackingLimits()
    most = min(limits.members - 1, limits.samples // questions)  # one file of a packed request is no picture
    if len(files) > most:
        raise Refusal(413, f"a request may have {most} pictures with {questions} questions, this one has {len(files)}")
    return decode_all(files, settings, min(limits.all_pixels, settings.max_held_pixels), say)
