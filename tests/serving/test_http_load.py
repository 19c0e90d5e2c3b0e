"""Many clients at once, each with erasers of its own: every answer is the one that its choice gives alone."""

from __future__ import annotations

import threading
from collections import Counter

from server_kit import NoFitter, asked, install, loud_eraser, running

from mllmeraser.serving.ledger import Ledger
from tiny import picture

CLIENTS, TURNS = 12, 8
NAMES = ("tiny", "tiny@one", "tiny@two", "tiny@three")


def test_no_answer_is_anothers(tiny_llava, tmp_path):
    path = str(tmp_path / "l.db")
    with Ledger.open(path) as book:
        for number, name in enumerate(("one", "two", "three")):
            install(book, loud_eraser(tiny_llava, direction=number + 1), name, default=False)
    prompts = [asked("Who is this?", picture(1)), asked("Where do they live?"), asked("What do they do?", picture(2))]
    with running(tiny_llava, path, NoFitter()) as server:
        bodies = [{"model": name, "messages": m, "max_tokens": 8} for name in NAMES for m in prompts]
        with server.http("client") as client:
            alone = [client.post("/v1/chat/completions", json=body).json()["choices"] for body in bodies]
        assert len({str(answer) for answer in alone}) > len(prompts)
        statuses, wrong = Counter(), []

        def go(number: int) -> None:
            with server.http("client") as client:
                for turn in ((number + 5 * n) % len(bodies) for n in range(TURNS)):
                    response = client.post("/v1/chat/completions", json=bodies[turn])
                    statuses[response.status_code] += 1
                    if response.status_code == 200 and response.json()["choices"] != alone[turn]:
                        wrong.append((turn, response.text))

        threads = [threading.Thread(target=go, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and statuses == {200: CLIENTS * TURNS}, (wrong[:1], statuses)
        status = server.server.engine.status()
        assert (status.queued, status.running) == (0, 0)
