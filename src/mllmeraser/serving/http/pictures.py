"""Pictures of a request: data addresses, uploads, and, where switched on, public http(s) addresses."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
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

from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.settings import ServeSettings

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
SECONDS = 10.0
"""For fetching a picture, from looking for its host to the last byte."""
AGAIN_SECONDS = 2.0
"""After how long there may be memory for one more picture."""
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        # IPv6 addresses that hold an IPv4 one, whoever translates them may reach what is private here
        "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
        "fec0::/10",  # local to a site
    )
)  # fmt: skip
"""Networks refused beside those that Python, some versions of it, knows not to be global."""


class Held:
    """Pixels of the pictures that this process has in memory. Thread-safe."""

    def __init__(self) -> None:
        """None so far."""
        self._lock = threading.Lock()
        self._pixels = 0
        self._freed: deque[int] = deque()

    def hold(self, pixels: int, most: int, make: Callable[[], Image.Image]) -> Image.Image:
        """The picture that `make` gives; its `pixels` count until nobody has it any more.

        Raises:
            Refusal: With those that are held it would be more than `most`; `make` was not called.
        """
        self._take(pixels, most)
        try:
            picture = make()
        except BaseException:
            self._freed.append(pixels)
            raise
        weakref.finalize(picture, self._freed.append, pixels)
        return picture

    def _take(self, pixels: int, most: int) -> None:
        with self._lock:
            # Counted here, not where a picture goes: that may be anywhere, in a thread that has the lock too.
            while self._freed:
                self._pixels -= self._freed.popleft()
            if self._pixels + pixels > most:
                raise Refusal(429, "too many pictures are waiting", "busy", retry_after=AGAIN_SECONDS)
            self._pixels += pixels


HELD = Held()
"""One for all servers of a process, for they share its memory."""


def decode(data: bytes, settings: ServeSettings) -> Image.Image:
    """An RGB picture from the bytes of a file.

    Raises:
        Refusal: It is too long, too large, of another format, or broken, or there is no memory for it now.
    """

    def unpacked() -> Image.Image:
        with _opened(data) as picture:
            return picture.convert("RGB")

    return HELD.hold(_pixels(data, settings), settings.max_held_pixels, unpacked)


def decode_all(files: Sequence[bytes], settings: ServeSettings, most: int) -> list[Image.Image]:
    """RGB pictures from files, with at most `most` pixels in all: a file of a few bytes may hold millions.

    Raises:
        Refusal: As `decode`, or they have more. Nothing is unpacked before the sizes of all are known.
    """
    pixels = sum(_pixels(data, settings) for data in files)
    if pixels > most:
        raise Refusal(413, f"the pictures of a request may have {most} pixels in all, these have {pixels}")
    return [decode(data, settings) for data in files]


def _pixels(data: bytes, settings: ServeSettings) -> int:
    """Pixels of the picture in a file, from its header alone."""
    if len(data) > settings.max_image_bytes:
        raise Refusal(413, f"a picture may have {settings.max_image_bytes} bytes, this one has {len(data)}")
    with _opened(data) as picture:
        width, height = picture.size
    if width * height > settings.max_image_pixels:
        raise Refusal(413, f"a picture may have {settings.max_image_pixels} pixels: {width} x {height}")
    return width * height


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A picture whose header has been read; what goes wrong while it is open is its fault."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            yield picture
    except Exception:  # Pillow raises many kinds for broken files
        raise Refusal(400, f"a picture cannot be read: give {', '.join(FORMATS)}", "invalid_image") from None


def from_url(url: str, settings: ServeSettings) -> Image.Image:
    """The picture at a data address, or, where that is switched on, at a public http(s) address.

    Raises:
        Refusal: It cannot or may not be read.
    """
    if url.startswith("data:"):
        return decode(_data(url), settings)
    if not url.startswith(("http://", "https://")):
        raise Refusal(400, "a picture is given as a data address (data:image/png;base64,...)", "invalid_image_url")
    if not settings.fetch_images:
        raise Refusal(400, "this server reads pictures from data addresses only", "invalid_image_url")
    return decode(_fetched(url, settings), settings)


def _data(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64") or not head.startswith("data:image/"):
        raise Refusal(400, "a data address of a picture looks like data:image/png;base64,...", "invalid_image_url")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "the base64 of a picture is broken", "invalid_image_url") from None


def _fetched(url: str, settings: ServeSettings) -> bytes:
    """The bytes at a public address. Its name is resolved once, and that very machine is asked."""
    ends = time.monotonic() + SECONDS
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = public_address(host, port)
        literal = f"[{address}]" if ":" in address else address
        target = parts._replace(netloc=f"{literal}:{port}").geturl()
        reading = _read(target, parts.netloc.rpartition("@")[2], host, settings.max_image_bytes)
        # Limits of a client hold for one step: a host that drips would keep this thread for good. A loop can stop it.
        return asyncio.run(asyncio.wait_for(reading, ends - time.monotonic()))
    except (httpx.HTTPError, httpx.InvalidURL, asyncio.TimeoutError, ValueError, UnicodeError):
        raise Refusal(400, "a picture's address cannot be read", "invalid_image_url") from None


async def _read(target: str, named: str, host: str, most: int) -> bytes:
    """At most `most` bytes, as they come: what is packed again could unpack to any size."""
    headers = {"host": named, "accept-encoding": "identity"}
    async with httpx.AsyncClient(follow_redirects=False, timeout=SECONDS, trust_env=False) as client:
        async with client.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as reply:
            if reply.status_code != 200:
                raise Refusal(400, f"a picture's address answered {reply.status_code}", "invalid_image_url")
            if reply.headers.get("content-encoding", "identity").lower() != "identity":
                raise Refusal(400, "a picture's address answered with a content-encoding", "invalid_image_url")
            data = bytearray()
            async for part in reply.aiter_raw():
                data += part
                if len(data) > most:
                    raise Refusal(413, f"a picture may have {most} bytes")
            return bytes(data)


def public_address(host: str, port: int) -> str:
    """An address of a host on the public internet.

    Raises:
        Refusal: It has none, or any of its addresses is private, local or reserved.
    """
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise Refusal(400, "a picture's address cannot be found", "invalid_image_url") from None
    addresses = [ipaddress.ip_address(one.partition("%")[0]) for one in found]
    if not addresses or any(not _public(one) for one in addresses):
        raise Refusal(400, "a picture's address is not on the public internet", "invalid_image_url")
    return str(min(addresses, key=lambda one: (one.version, int(one))))


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in network for network in NOT_PUBLIC)
