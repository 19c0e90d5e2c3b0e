"""Pictures from files and bytes, always as RGB, with errors that name the picture."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image, ImageOps

from mllmeraser.samples.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif"}
)


def is_image_file(path: Path) -> bool:
    """Whether the name of a file says that it is a picture (hidden files are none)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as it is looked at: camera orientation applied, transparency on white, mode RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


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
        # Pillow reports an unknown format with the repr of a buffer, which tells the user nothing.
        reason = "not a picture Pillow can read" if "BytesIO" in str(error) else str(error)
        raise InputError(f"{where}: unreadable image ({reason})") from None


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 (hex) over size and RGB bytes: equal for the same picture, whatever the file format."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    digest = hashlib.sha256(b"%dx%d\0" % rgb.size)
    digest.update(rgb.tobytes())
    return digest.hexdigest()
