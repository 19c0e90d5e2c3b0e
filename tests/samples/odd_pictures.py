"""Odd picture files that people really have, and the pixels that everybody must see in them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from mllmeraser.samples.images import ORIENTATION

SIZE = (12, 8)
UPRIGHT = Image.fromarray(
    np.stack(
        [
            np.arange(96, dtype=np.uint8).reshape(8, 12) * 2,
            np.full((8, 12), 90, np.uint8),
            np.arange(96, dtype=np.uint8).reshape(8, 12)[::-1] + 20,
        ],
        -1,
    )
)
"""No row and no column is like another, so a turn shows."""
BACK = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""How a camera stores an upright picture that it marks with this EXIF orientation."""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int, kind: str = "PNG") -> bytes:
    way = BACK[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(UPRIGHT if way is None else UPRIGHT.transpose(way), kind, exif=exif)


def half_clear() -> tuple[Image.Image, Image.Image]:
    """An RGBA picture with a hidden colour on the left, and what is to be seen of it."""
    layer = UPRIGHT.convert("RGBA")
    alpha = np.full((8, 12), 255, np.uint8)
    alpha[:, :6] = 0
    layer.putalpha(Image.fromarray(alpha))
    seen = np.asarray(UPRIGHT).copy()
    seen[:, :6] = 255
    return layer, Image.fromarray(seen)


def png_of(depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG from its parts: `rows` with their filter bytes, `more` chunks before them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", *SIZE, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def grey16(clear: int | None = None) -> tuple[bytes, Image.Image]:
    values = np.linspace(0, 0xFFFF, 96).round().astype(np.uint16).reshape(8, 12)
    grey = np.round(values / 257).astype(np.uint8)
    more = [] if clear is None else [(b"tRNS", struct.pack(">H", int(values.flat[clear])))]
    if clear is not None:
        grey[values == values.flat[clear]] = 255
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_of(16, 0, rows, *more), Image.fromarray(grey).convert("RGB")


def keyed() -> tuple[bytes, Image.Image]:
    """An RGB PNG whose tRNS makes one colour transparent."""
    pixels = np.asarray(UPRIGHT)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    seen = pixels.copy()
    seen[3, 4] = 255
    return png_of(8, 2, rows, (b"tRNS", struct.pack(">HHH", *map(int, pixels[3, 4])))), Image.fromarray(seen)


def palette(*, clear: bool) -> tuple[bytes, Image.Image]:
    small = UPRIGHT.quantize(16)
    seen = np.asarray(small.convert("RGB")).copy()
    if not clear:
        return encoded(small, "PNG"), Image.fromarray(seen)
    seen[np.asarray(small) == 2] = 255
    return encoded(small, "PNG", transparency=2), Image.fromarray(seen)


def animated(kind: str) -> tuple[bytes, Image.Image]:
    first, second = (Image.new("RGB", SIZE, colour) for colour in ("red", "blue"))
    return encoded(first, kind, save_all=True, append_images=[second]), first


def decoded(data: bytes) -> Image.Image:
    """What a format that loses something holds, where no rule of ours is at work."""
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def lossy(image: Image.Image, kind: str) -> tuple[bytes, Image.Image]:
    data = encoded(image, kind)
    return data, decoded(data)


ODD: dict[str, Callable[[], tuple[bytes, Image.Image]]] = {
    **{f"turned {number}": lambda n=number: (turned(n), UPRIGHT) for number in BACK},  # type: ignore[misc]
    "turned, lossless webp": lambda: (
        encoded(UPRIGHT.transpose(BACK[6]), "WEBP", lossless=True, exif=b"Exif\0\0" + _exif(6)), UPRIGHT,
    ),
    "alpha": lambda: (encoded(half_clear()[0], "PNG"), half_clear()[1]),
    "alpha, webp": lambda: (encoded(half_clear()[0], "WEBP", lossless=True, exact=True), half_clear()[1]),
    "grey and alpha": lambda: (
        encoded(half_clear()[0].convert("LA"), "PNG"),
        Image.composite(half_clear()[0].convert("L"), Image.new("L", SIZE, 255), half_clear()[0].getchannel("A"))
        .convert("RGB"),
    ),
    "tRNS in RGB": keyed,
    "tRNS in grey of 16 bits": lambda: grey16(clear=7),
    "grey of 16 bits": grey16,
    "grey of 16 bits, tiff": lambda: (encoded(Image.open(io.BytesIO(grey16()[0])), "TIFF"), grey16()[1]),
    "grey of one bit": lambda: (encoded(UPRIGHT.convert("1"), "PNG"), UPRIGHT.convert("1").convert("RGB")),
    "palette": lambda: palette(clear=False),
    "palette with tRNS": lambda: palette(clear=True),
    "cmyk": lambda: lossy(UPRIGHT.convert("CMYK"), "JPEG"),
    "jpeg": lambda: lossy(UPRIGHT, "JPEG"),
    "bmp": lambda: (encoded(UPRIGHT, "BMP"), UPRIGHT),
    "ppm": lambda: (encoded(UPRIGHT, "PPM"), UPRIGHT),
    "animated gif": lambda: animated("GIF"),
    "animated png": lambda: animated("PNG"),
    "pages of a tiff": lambda: animated("TIFF"),
}  # fmt: skip


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


SUFFIX = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp", b"P6": "ppm"}


def suffix(data: bytes) -> str:
    return next((kind for head, kind in SUFFIX.items() if data.startswith(head)), "tif")
