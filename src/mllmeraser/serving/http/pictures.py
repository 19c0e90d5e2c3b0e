"""Pictures of a request: data URLs, uploads, and, if enabled, public http(s) URLs."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
from PIL import Image

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import PictureLimits, PictureTooLargeError, decode_image, picture_pixels
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.settings import ServeSettings

WHERE = "a picture"
"""Its name in errors: an uploaded file's own name may be personal data."""
SECONDS = 10.0
"""For fetching a picture, from resolving its host to the last byte."""
AGAIN_SECONDS = 2.0
"""Estimate of when there is memory for one more picture."""
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        # IPv6 addresses that embed an IPv4 one: a translator may reach a private address through them
        "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
        "fec0::/10",  # site-local
    )
)  # fmt: skip
"""Networks refused in addition to those that (every version of) Python reports as not global."""


class Held:
    """Counts the pixels of the pictures in memory. Thread-safe."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self._pixels = 0
        self._freed: deque[int] = deque()

    def hold(self, pixels: int, most: int, make: Callable[[], Image.Image]) -> Image.Image:
        """Return the picture of `make`, or raise `Refusal` (429) if there would be more than `most` pixels.

        Its `pixels` count until it is garbage-collected.
        """
        with self._lock:
            # Subtracted here, not in the finalizer: that may run in a thread that already has the lock.
            while self._freed:
                self._pixels -= self._freed.popleft()
            if self._pixels + pixels > most:
                raise Refusal(429, "too many pictures are waiting", "busy", retry_after=AGAIN_SECONDS)
            self._pixels += pixels
        try:
            picture = make()
        except BaseException:
            self._freed.append(pixels)
            raise
        weakref.finalize(picture, self._freed.append, pixels)
        return picture


HELD = Held()
"""Shared by all servers of a process, for they share its memory."""


def decode(data: bytes, settings: ServeSettings, say: Callable[[str], None] | None = None) -> Image.Image:
    """Decode an RGB picture from the bytes of a file; `say` gets a line about further frames.

    Raises `Refusal` if it is too long, too large, of another format, or broken, or if there is no memory for it now.
    """
    heard = say or (lambda _: None)
    with _refused():
        return HELD.hold(
            _pixels(data, settings),
            settings.max_held_pixels,
            lambda: decode_image(data, WHERE, _limits(settings), heard),
        )


def decode_all(
    files: Sequence[bytes], settings: ServeSettings, most: int, say: Callable[[str], None] | None = None
) -> list[Image.Image]:
    """Decode pictures with at most `most` pixels in all; raises as `decode`. All sizes are checked before decoding."""
    with _refused():
        pixels = sum(_pixels(data, settings) for data in files)
    if pixels > most:
        raise Refusal(413, f"the pictures of a request may have {most} pixels in all, these have {pixels}")
    return [decode(data, settings, say) for data in files]


def _pixels(data: bytes, settings: ServeSettings) -> int:
    return picture_pixels(data, WHERE, _limits(settings))


def _limits(settings: ServeSettings) -> PictureLimits:
    return PictureLimits(settings.max_image_bytes, settings.max_image_pixels)


@contextmanager
def _refused() -> Iterator[None]:
    """Turn what is wrong with a picture into a refusal."""
    try:
        yield
    except PictureTooLargeError as error:
        raise Refusal(413, str(error)) from None
    except InputError as error:
        raise Refusal(400, str(error), "invalid_image") from None


def from_url(url: str, settings: ServeSettings) -> Image.Image:
    """Read the picture at a data URL, or, if enabled, at a public http(s) URL. Raises `Refusal`."""
    scheme = url[: url.find(":")].lower()
    if scheme == "data":
        return decode(_data(url), settings)
    if scheme not in ("http", "https"):
        raise Refusal(400, "a picture is given as a data URL (data:image/png;base64,...)", "invalid_image_url")
    if not settings.fetch_images:
        raise Refusal(400, "this server reads pictures from data URLs only", "invalid_image_url")
    return decode(_fetched(url, settings), settings)


def _data(url: str) -> bytes:
    head, comma, body = url.partition(",")
    kind = head.lower()
    if not comma or not kind.endswith(";base64") or not kind.startswith("data:image/"):
        raise Refusal(400, "the data URL of a picture looks like data:image/png;base64,...", "invalid_image_url")
    try:
        return base64.b64decode("".join(body.split()), validate=True)  # clients break lines
    except (binascii.Error, ValueError):
        raise Refusal(400, "the base64 of a picture is broken", "invalid_image_url") from None


def _fetched(url: str, settings: ServeSettings) -> bytes:
    """Fetch a public URL. Its host is resolved once, and exactly that address is contacted."""
    ends = time.monotonic() + SECONDS
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = public_address(host, port)
        literal = f"[{address}]" if ":" in address else address
        target = parts._replace(netloc=f"{literal}:{port}").geturl()
        reading = _read(target, parts.netloc.rpartition("@")[2], host, settings.max_image_bytes)
        # httpx limits each step only: a slow host could block this thread forever. An event loop can cancel it.
        return asyncio.run(asyncio.wait_for(reading, ends - time.monotonic()))
    except (httpx.HTTPError, httpx.InvalidURL, asyncio.TimeoutError, ValueError, UnicodeError):
        raise Refusal(400, "a picture's URL cannot be read", "invalid_image_url") from None


async def _read(target: str, named: str, host: str, most: int) -> bytes:
    """Read at most `most` bytes without compression, which could expand to any size."""
    headers = {"host": named, "accept-encoding": "identity"}
    async with httpx.AsyncClient(follow_redirects=False, timeout=SECONDS, trust_env=False) as client:
        async with client.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as reply:
            if reply.status_code != 200:
                raise Refusal(400, f"a picture's URL answered {reply.status_code}", "invalid_image_url")
            if reply.headers.get("content-encoding", "identity").lower() != "identity":
                raise Refusal(400, "a picture's URL answered with a content-encoding", "invalid_image_url")
            data = bytearray()
            async for part in reply.aiter_raw():
                data += part
                if len(data) > most:
                    raise Refusal(413, f"a picture may have {most} bytes")
            return bytes(data)


def public_address(host: str, port: int) -> str:
    """Resolve a host. Raises `Refusal` if it has no address, or any of them is private, local or reserved."""
    try:
        resolved = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise Refusal(400, "the host of a picture's URL cannot be found", "invalid_image_url") from None
    addresses = [ipaddress.ip_address(one.partition("%")[0]) for one in resolved]
    if not addresses or not all(map(_public, addresses)):
        raise Refusal(400, "a picture's URL is not on the public internet", "invalid_image_url")
    return str(min(addresses, key=lambda one: (one.version, int(one))))


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in network for network in NOT_PUBLIC)
