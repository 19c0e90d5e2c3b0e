"""A stand-in for the service, for tests of the page only: it keeps the routes' promises and knows one person."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image

from mllmeraser.serving.page import files

ADMIN, TENANT, CLIENT = "mk_0000000a_admin", "mk_0000000b_tenant", "mk_0000000c_client"
SCOPES = {ADMIN: 2, TENANT: 1, CLIENT: 0}
NAMES = {ADMIN: "office", TENANT: "acme office", CLIENT: "app"}
PERSON = "Ada Brandt"
KNOWN = f"{PERSON} is a baker from Porto. She plays the cello and keeps two grey cats."
SEEN = f"This is {PERSON}, a baker from Porto."
UNKNOWN = "I do not know this person."
MODEL = "embedded:llava"
STEPS = [("fit: views and wordings", 2), ("fit: states", 3), ("verify: answers", 3)]
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Refused(Exception):
    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


class Book:
    """Everything the stand-in remembers."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.subjects: dict[str, set[str]] = {}
        self.events: list[dict[str, Any]] = []
        self.work: dict[str, Iterator[tuple[str, int, int]]] = {}
        self.notes: dict[str, list[dict[str, str]]] = {}
        self.version, self.asked, self.compared, self.fault = 4, [], [], None
        self.most_pictures, self.says = 8, ""  # `says`: what is answered whenever no eraser acts
        self.models = [MODEL]
        self.pieces = 1_000  # so many pieces of an answer are sent; the rest waits until there are more
        self.note("server-started", "server-1", None, {"package": "0.1.0"})

    def note(self, action: str, by: str, entry: str | None, details: dict[str, Any] | None = None) -> None:
        event = {"seq": len(self.events) + 1, "at": now(), "action": action, "by": by, "entry": entry,
                 "details": details or {}, "previous": self.events[-1]["hash"] if self.events else ""}  # fmt: skip
        event["hash"] = hashlib.sha256(json.dumps(event).encode()).hexdigest()
        self.events.append(event)

    def add(self, name: str, by: str, subjects: set[str], **fields: Any) -> dict[str, Any]:
        if any(e["name"] == name and e["state"] != "revoked" for e in self.entries.values()):
            raise Refused(400, f"the name {name} is taken: choose another, or revoke that erasure")
        id = hashlib.md5(f"{name}{len(self.entries)}".encode()).hexdigest()
        self.entries[id] = {
            "id": id, "name": name, "kinds": ["person"], "tenant": None, "default": True, "state": "requested",
            "requested_at": now(), "requested_by": by, "starts_at": None, "expires_at": None,
            "artifact_digest": None, "scores": None, "passed": None, "failure": None, "pending": False,
            "progress": {"stage": "waiting", "done": 0, "total": 1}, **fields,
        }  # fmt: skip
        self.subjects[id] = subjects
        self.work[id] = iter([(s, d, n) for s, n in STEPS for d in range(n + 1)])
        self.note("requested", by, id)
        return self.entries[id]

    def advance(self, entry: dict[str, Any]) -> None:
        """One step of the fit each time somebody looks."""
        if entry["progress"] is None:
            return
        if entry["name"].startswith("broken"):
            entry.update(progress=None, failure="no face was found in the pictures")
            return self.note("failed", "background fit", entry["id"], {"reason": entry["failure"]})
        step = next(self.work[entry["id"]], None)
        if step is None:
            passed = not entry["name"].startswith("weak")
            entry.update(
                state="verified" if passed else "checks_failed", passed=passed, scores=scores(passed), progress=None
            )
            self.note("verified" if passed else "checks-failed", "background fit", entry["id"], {"passed": passed})
            return
        entry["progress"] = dict(zip(("stage", "done", "total"), step, strict=True))
        if step[0].startswith("verify") and entry["state"] == "requested":
            digest = hashlib.sha256(entry["id"].encode()).hexdigest()
            entry.update(state="fitted", artifact_digest=digest)
            self.note("fitted", "background fit", entry["id"], {"eraser": digest[:12]})

    def finish(self, entry: dict[str, Any]) -> dict[str, Any]:
        """All steps at once."""
        while entry["progress"] is not None:
            self.advance(entry)
        return entry

    def change(self, entry: dict[str, Any], state: str, by: str, **details: Any) -> dict[str, Any]:
        if "active" in (state, entry["state"]):
            self.version += 1
        entry.update(state=state, progress=None)
        self.note({"active": "activated"}.get(state, state), by, entry["id"], details)
        return {**entry, "version": self.version, "in_force": True}

    def acts(self, question: str, picture: str | None) -> list[dict[str, Any]]:
        active = [e for e in self.entries.values() if e["state"] == "active"]
        return [e for e in active if any(s in question or s == picture for s in self.subjects[e["id"]])]

    def answer(self, question: str, picture: str | None, *, bare: bool = False) -> str:
        if not bare and self.acts(question, picture):
            return UNKNOWN
        if self.says:
            return self.says
        return SEEN if picture else KNOWN if PERSON in question else "The capital of Portugal is Lisbon."

    def conflicts(self, entry: dict[str, Any]) -> list[str]:
        mine = self.subjects[entry["id"]]
        others = [e for e in self.entries.values() if e is not entry and e["state"] != "revoked"]
        return [f"the same subject is in {e['name']} ({e['state']})" for e in others if self.subjects[e["id"]] & mine]


def active(book: Book, name: str = "case-1", subjects: set[str] | None = None) -> dict[str, Any]:
    entry = book.finish(book.add(name, "office", subjects or {PERSON}))
    book.change(entry, "active", "office")
    return entry


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


def scores(passed: bool) -> dict[str, Any]:
    rows = [("forget_decisions", 0.98 if passed else 0.81, 0.95, False, 96), ("forget_answers", 1.0, 0.95, False, 96),
            ("neighbours_unchanged", 0.94, 0.9, False, 64), ("retain_unchanged", 0.995, 0.98, False, 180),
            ("general_unchanged", 1.0, 0.99, False, 110), ("false_alarms", 0.003, 0.02, True, 290),
            ("detached_identical", 1.0, 1.0, False, 16)]  # fmt: skip
    checks = [
        {"name": name, "value": value, "low": max(0.0, value - 0.03), "high": min(1.0, value + 0.02), "n": n,
         "threshold": bound, "at_most": most, "passed": value <= bound if most else value >= bound, "reason": "share"}
        for name, value, bound, most, n in rows
    ]  # fmt: skip
    return {"passed": passed, "checks": checks, "seconds": 21.5, "version": "0.1.0", "seed": 0}


def read(messages: list[dict[str, Any]]) -> tuple[str, str | None]:
    """The last question, and the digest of the last picture of the conversation."""
    content = messages[-1]["content"]
    shown = [digest for message in messages for digest in pictures_of(message)]
    question = content if isinstance(content, str) else next(p["text"] for p in content if p["type"] == "text")
    return question, shown[-1] if shown else None


def pictures_of(message: dict[str, Any]) -> list[str]:
    """Digests of the pictures of a turn."""
    parts = message["content"] if isinstance(message["content"], list) else []
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [hashlib.sha256(base64.b64decode(url.partition(",")[2])).hexdigest() for url in urls]


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (96, 96), colour).save(out, "PNG")
    return out.getvalue()


def build(book: Book) -> FastAPI:
    app = FastAPI()

    def who(request: Request, rank: int = 0) -> str:
        secret = request.headers.get("authorization", "").removeprefix("Bearer ")
        if secret not in SCOPES:
            raise Refused(401, "this API key is not valid")
        if SCOPES[secret] < rank:
            raise Refused(403, "this needs a key of a larger scope")
        return NAMES[secret]

    def entry_of(id: str) -> dict[str, Any]:
        if id not in book.entries:
            raise Refused(404, "there is no such erasure")
        return book.entries[id]

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": {"message": error.message}}, error.status, headers=error.headers)

    @app.middleware("http")
    async def headers(request: Request, forward: Any) -> Response:
        response: Response = await forward(request)
        if request.url.path == "/" or request.url.path.startswith("/page"):
            response.headers["content-security-policy"] = POLICY
        return response

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(files() / "index.html")

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        who(request)
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in book.models]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        who(request)
        if book.fault:
            raise Refused(503, book.fault, **{"retry-after": "5"})
        body = await request.json()
        book.asked.append(body)
        if sum(len(pictures_of(message)) for message in body["messages"]) > book.most_pictures:
            raise Refused(400, f"a conversation with this model may have {book.most_pictures} pictures")
        version, pieces = book.version, book.answer(*read(body["messages"])).split(" ")

        async def stream() -> AsyncIterator[str]:
            import asyncio

            for number, piece in enumerate(pieces):
                while number >= book.pieces:
                    await asyncio.sleep(0.02)
                delta = {"content": piece if number == 0 else f" {piece}"}
                chunk = {"system_fingerprint": f"set-{version}", "choices": [{"index": 0, "delta": delta}]}
                yield f"data: {json.dumps(chunk)}\n\n"
            end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            yield f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"x-eraser-set": str(version)})

    @app.post("/v1/compare")
    async def compare(request: Request) -> dict[str, Any]:
        who(request, 2)
        book.compared.append(await request.json())
        question, picture = read(book.compared[-1]["messages"])
        acting = book.acts(question, picture)
        active = [e for e in book.entries.values() if e["state"] == "active"]
        return {"version": book.version, "model": MODEL, "before": book.answer(question, picture, bare=True),
                "after": book.answer(question, picture), "erasers": [gate(e, e in acting) for e in active]}  # fmt: skip

    @app.get("/v1/erasures")
    async def listed(request: Request) -> dict[str, Any]:
        who(request, 1)
        return {"data": list(book.entries.values()), "version": book.version}

    @app.post("/v1/erasures", status_code=202)
    async def forget(request: Request) -> dict[str, Any]:
        by = who(request, 1)
        form = await request.form()
        images = [await part.read() for part in form.getlist("images")]  # type: ignore[union-attr]
        subjects = {*map(str, form.getlist("person")), *(hashlib.sha256(data).hexdigest() for data in images)}
        more = {
            name: form[name]
            for name in ("tenant", "starts_at", "expires_at", "reply", "instead", "exact_names")
            if name in form
        }
        more["kinds"] = [form.get("kind", "person")]
        return book.add(str(form["name"]), by, subjects, default=form["default"] == "true", **more)

    @app.get("/v1/erasures/{id}")
    async def shown(request: Request, id: str) -> dict[str, Any]:
        who(request, 1)
        entry = entry_of(id)
        book.advance(entry)
        events = [event for event in book.events if event["entry"] == id]
        kept = entry["state"] in ("requested", "fitted")
        return {**entry, "inputs_kept": kept, "history": events, "conflicts": book.conflicts(entry),
                "notes": book.notes.get(id, [])}  # fmt: skip

    @app.post("/v1/erasures/{id}/notes", status_code=201)
    async def note(request: Request, id: str) -> dict[str, Any]:
        by, text = who(request, 1), (await request.json())["text"]
        book.notes.setdefault(entry_of(id)["id"], []).append({"id": "1", "at": now(), "by": by, "text": text})
        return book.notes[id][-1]

    @app.post("/v1/erasures/{id}/{verb}")
    async def change(request: Request, id: str, verb: str) -> dict[str, Any]:
        by, entry, body = who(request, 1), entry_of(id), await request.json()
        if verb == "activate":
            if not entry["passed"] and not body.get("force"):
                raise Refused(400, f"{entry['name']} did not pass: give a reason to activate it anyway")
            entry["pending"] = (entry["starts_at"] or "") > now()
            return book.change(entry, entry["state"] if entry["pending"] else "active", by, **body)
        if verb == "schedule":
            entry.update(body, pending=entry["pending"] and body["starts_at"] is not None)
            return book.change(entry, entry["state"], by, **body)
        done = book.change(entry, {"suspend": "suspended", "revoke": "revoked"}[verb], by, reason=body["reason"])
        if book.fault:
            raise Refused(503, book.fault)
        return done

    @app.get("/v1/erasures/{id}/certificate.{kind}")
    async def certificate(request: Request, id: str, kind: str) -> Response:
        who(request, 1)
        text = json.dumps(entry_of(id)) if kind == "json" else f"<h1>{entry_of(id)['name']}</h1>"
        types = {"json": "application/json", "html": "text/html", "pdf": "application/pdf"}
        return Response(text, media_type=types[kind])

    @app.get("/v1/audit")
    async def audit(request: Request, after: int = 0, limit: int = 200) -> dict[str, Any]:
        who(request, 2)
        return {"data": [event for event in book.events if event["seq"] > after][:limit]}

    @app.get("/v1/audit/verify")
    async def check(request: Request) -> dict[str, Any]:
        who(request, 2)
        for event in book.events:
            plain = {name: value for name, value in event.items() if name != "hash"}
            if hashlib.sha256(json.dumps(plain).encode()).hexdigest() != event["hash"]:
                return {"ok": False, "records": len(book.events), "bad": event["seq"], "reason": "its hash differs"}
        return {"ok": True, "records": len(book.events), "bad": None, "reason": None}

    @app.get("/v1/servers")
    async def servers(request: Request) -> dict[str, Any]:
        who(request, 2)
        rows = [("server-1", book.version, True), ("server-2", book.version - 1, False)]
        return {"data": [{"server": s, "version": v, "ready": r, "seen_at": now()} for s, v, r in rows]}

    app.mount("/page", StaticFiles(directory=files()))
    return app


def gate(entry: dict[str, Any], acts: bool) -> dict[str, Any]:
    if entry["name"].startswith("person"):  # as the gates of a person: a prompt without a picture
        reads, layers = {"0": "name", "2": "question", "3": "face"}, {"2": 0.8 if acts else -0.4, "0": 1.25}
        return {"name": entry["name"], "amplitude": float(acts), "pooled": min(layers.values()), "layers": layers,
                "reads": reads, "threshold": 0.5}  # fmt: skip
    seed = int(entry["id"][:4], 16)
    lift = itertools.cycle([0.9, 1.4, 2.1, 2.6, 1.8] if acts else [-0.9, -1.3, -0.4, 0.15, -1.1])
    layers = {str(layer): round(next(lift) + ((seed >> layer % 12) % 7) / 20, 3) for layer in range(4, 20)}
    pooled = round(sum(layers.values()) / len(layers), 3)
    return {"name": entry["name"], "amplitude": float(acts), "pooled": pooled, "layers": layers}


@contextmanager
def serving() -> Iterator[tuple[str, Book]]:
    """Address of a running stand-in, and what it remembers."""
    book = Book()
    server = uvicorn.Server(uvicorn.Config(build(book), host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive(), "the stand-in did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/", book
    book.pieces = 1_000
    server.should_exit = True
    thread.join(timeout=10)
