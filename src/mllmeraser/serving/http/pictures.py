"""Pictures of a request: data addresses, uploads, and, where switched on, public http(s) addresses."""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import socket
import warnings
from urllib.parse import urlsplit

import httpx
from PIL import Image

from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.settings import ServeSettings

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
SECONDS = 10.0


def decode(data: bytes, settings: ServeSettings) -> Image.Image:
    """An RGB picture from the bytes of a file.

    Raises:
        Refusal: It is too long, too large, of another format, or broken.
    """
    if len(data) > settings.max_image_bytes:
        raise Refusal(413, f"a picture may have {settings.max_image_bytes} bytes, this one has {len(data)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size  # the header alone: nothing is unpacked yet
                if width * height > settings.max_image_pixels:
                    raise Refusal(413, f"a picture may have {settings.max_image_pixels} pixels: {width} x {height}")
                return picture.convert("RGB")
    except Refusal:
        raise
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
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = public_address(host, port)
        literal = f"[{address}]" if ":" in address else address
        target = parts._replace(netloc=f"{literal}:{port}").geturl()
        headers = {"host": parts.netloc.rpartition("@")[2]}
        with httpx.Client(follow_redirects=False, timeout=SECONDS, trust_env=False) as client:
            with client.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as reply:
                if reply.status_code != 200:
                    raise Refusal(400, f"a picture's address answered {reply.status_code}", "invalid_image_url")
                data = b""
                for part in reply.iter_bytes():
                    data += part
                    if len(data) > settings.max_image_bytes:
                        raise Refusal(413, f"a picture may have {settings.max_image_bytes} bytes")
                return data
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, UnicodeError):
        raise Refusal(400, "a picture's address cannot be read", "invalid_image_url") from None


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
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return _public(address.ipv4_mapped)
    return address.is_global and not address.is_multicast
