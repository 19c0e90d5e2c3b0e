"""Every way for a picture to come in ends here: any file or Pillow image becomes upright 8-bit RGB on white."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mllmeraser.samples.errors import InputError, InputWarning

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Formats that are read, the same at every entrance. Pillow's others call programs or are rarely pictures of people."""
IMAGE_SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif",
)  # fmt: skip
"""Files with these suffixes are pictures of a folder. HEIC is among them to be refused by name."""
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
"""Brands of files that Pillow alone cannot read; phones write them."""
ORIENTATION = 0x0112


class PictureTooLargeError(InputError):
    """A picture has more bytes or pixels than the limits allow."""


@dataclass(frozen=True)
class PictureLimits:
    """The largest picture that is decoded: bytes of its file, and pixels."""

    bytes: int = 256 * 2**20
    pixels: int = 89_478_485


LIMITS = PictureLimits()
"""For files of one's own. A service has tighter ones."""


def is_image_file(path: Path) -> bool:
    """Whether a file has the suffix of a picture."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture upright as its EXIF data says, on white if transparent, 8 bits, mode RGB; itself if it is so.

    Raises:
        ValueError: It has no pixels, or values that have no 8-bit form (floating point, 32 bits).
    """
    if 0 in image.size:
        raise ValueError("it has no pixels")
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    clear = image.info.get("transparency")
    if image.mode == "RGB" and clear is None:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bits(image, clear)
    if clear is not None or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
        layer = (image if straight is None else image.convert(straight)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def given_image(image: Image.Image) -> Image.Image:
    """As `as_rgb`, for a picture that Python code passes; one that has no such form is an `InputError`."""
    try:
        return as_rgb(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"a picture cannot be used: {error}") from None


def _eight_bits(image: Image.Image, clear: object) -> Image.Image:
    """A grey picture of 16 bits, rounded to 8; the value `clear` is transparent."""
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= int(values.min()) <= int(values.max()) <= 0xFFFF:
        raise ValueError("its values are no 8-bit or 16-bit numbers")
    grey = ((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)  # round(value / 257), as in libpng
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def open_image(path: str | Path) -> Image.Image:
    """Read one picture; a missing or unreadable file is an `InputError` that names it."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such image file") from None
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        raise InputError(f"{path!s}: cannot read the image file ({getattr(error, 'strerror', 0) or error})") from None
    return decode_image(data, str(path))


def decode_image(
    data: bytes, where: str, limits: PictureLimits = LIMITS, say: Callable[[str], None] | None = None
) -> Image.Image:
    """Decode a picture file (see `FORMATS`); of several frames or pages the first.

    A message about it goes to `say`; without that, it is an `InputWarning`.

    Raises:
        PictureTooLargeError: It has more bytes or pixels than allowed.
        InputError: It is broken or of another format; `where` names it in the message.
    """
    picture_pixels(data, where, limits)
    with _opened(data, where) as image:
        frames = int(getattr(image, "n_frames", 1))
        image.load()
        found = as_rgb(image)
    if frames > 1 and image.format != "MPO":  # an MPO is a photo with previews
        told = f"{where}: has {frames} frames, the first is used"
        warnings.warn(told, InputWarning, stacklevel=2) if say is None else say(told)
    return found


def picture_pixels(data: bytes, where: str, limits: PictureLimits = LIMITS) -> int:
    """Number of pixels, read from the header alone; raises as `decode_image`."""
    if not data:
        raise InputError(f"{where}: an image of zero bytes")
    if len(data) > limits.bytes:
        raise PictureTooLargeError(f"{where}: a picture may have {limits.bytes} bytes, this one has {len(data)}")
    with _opened(data, where) as image:
        width, height = image.size
    if width * height > limits.pixels:
        raise PictureTooLargeError(f"{where}: {width} x {height} is more than {limits.pixels} pixels")
    return width * height


@contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """Open a picture file; any error inside the block counts as a broken file."""
    try:
        with Image.open(io.BytesIO(data), formats=_readable()) as image:
            yield image
    except Image.UnidentifiedImageError:
        raise InputError(f"{where}: unreadable image ({_unknown(data)})") from None
    except Exception as error:  # Pillow raises many kinds for broken files
        raise InputError(f"{where}: unreadable image ({' '.join(str(error).split()) or 'broken'})") from None


@cache
def _readable() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _unknown(data: bytes) -> str:
    known = f"give {', '.join(_readable())}"
    return f"HEIC is not read; {known}" if data[4:8] == b"ftyp" and data[8:12] in HEIC else f"unknown format; {known}"


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 (hex) over size and RGB bytes: equal for the same picture in any file format."""
    rgb = as_rgb(image)
    digest = hashlib.sha256(b"%dx%d\0" % rgb.size)
    digest.update(rgb.tobytes())
    return digest.hexdigest()
