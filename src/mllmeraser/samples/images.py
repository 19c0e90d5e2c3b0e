"""Pictures from files and bytes, always as RGB, with errors that name the picture."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image, ImageOps

from mllmeraser.samples.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif")


def is_image_file(path: Path) -> bool:
    """Whether a file has the suffix of a picture and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture upright as its EXIF data says, on white if transparent, mode RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode != "RGB" and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def open_image(path: str | Path) -> Image.Image:
    """Read one picture; a missing or unreadable file is an `InputError` that names it."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such image file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read the image file ({error.strerror or error})") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode an encoded picture (png, jpeg, webp, ...); `where` names it in the error."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return as_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow's message for an unknown format is the repr of a buffer, which does not help the user.
        reason = "not a picture Pillow can read" if "BytesIO" in str(error) else str(error)
        raise InputError(f"{where}: unreadable image ({reason})") from None


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 (hex) over size and RGB bytes: equal for the same picture in any file format."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    digest = hashlib.sha256(b"%dx%d\0" % rgb.size)
    digest.update(rgb.tobytes())
    return digest.hexdigest()
