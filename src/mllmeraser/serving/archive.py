"""The zip file of a packed request: allowed file names and size limits."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import NamedTuple

from mllmeraser.samples.errors import InputError

REQUEST_FILE = "request.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_END = struct.Struct("<4s4H2LH")
"""End record of a zip; its sixth field is the size of the directory."""
_ENTRY = 128
"""Most bytes of a directory entry."""


class PackingLimits(NamedTuple):
    """Size limits of a packed request; sizes of files are unpacked."""

    pixels: int = 25_000_000  # of one picture
    all_pixels: int = 250_000_000
    member: int = 96 * 2**20  # bytes of one file
    members: int = 1025  # files
    total: int = 256 * 2**20  # bytes of all files, and of the zip
    samples: int = 20_000  # prompts


def picture_name(number: int) -> str:
    """Name of a picture in the zip."""
    return f"images/{number:05d}.png"


def zipped(files: dict[str, bytes], limits: PackingLimits) -> bytes:
    """Pack files; equal files give equal bytes. Raises `InputError` if they break a limit."""
    _check_sizes([(name, len(data)) for name, data in files.items()], limits)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            kind = zipfile.ZIP_DEFLATED if name == REQUEST_FILE else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), data, compress_type=kind)
    return buffer.getvalue()


def unzipped(data: bytes, limits: PackingLimits) -> dict[str, bytes]:
    """Unpack files by name. Raises `InputError` if the zip is damaged, breaks a limit, or has other file names."""
    _check_directory(data, limits)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_names([member.filename for member in members], limits)
            if any(member.flag_bits & 1 or member.is_dir() for member in members):
                raise InputError("the packed request holds an encrypted file")
            _check_sizes([(member.filename, member.file_size) for member in members], limits)
            return {member.filename: _unzipped_member(archive, member) for member in members}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError):
        raise InputError("the packed request is not a sound zip file") from None


def _check_directory(data: bytes, limits: PackingLimits) -> None:
    """Refuse a long directory before it is read: each entry takes far more memory than its bytes."""
    end = data[-_END.size :]
    plain = len(end) == _END.size and end[:4] == b"PK\5\6" and end[-2:] == b"\0\0"
    if not plain or data[-_END.size - 20 :][:4] == b"PK\6\7":  # a comment, or a zip64 record
        raise InputError("the packed request is not a sound zip file")
    if _END.unpack(end)[5] > limits.members * _ENTRY:
        raise InputError(f"the packed request holds too many files: {limits.members} are allowed")


def _unzipped_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack a file, never beyond its stated size, which has been checked."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError("the packed request is compressed in a way that is not used for requests")
    with archive.open(member) as file:
        data = file.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise InputError("the packed request holds a file that is not of its stated size")
    return data


def _check_names(names: list[str], limits: PackingLimits) -> None:
    if len(names) > limits.members:
        raise InputError(f"the packed request holds {len(names)} files, and {limits.members} are allowed")
    pictures = sorted(name for name in names if name != REQUEST_FILE)
    if len(pictures) != len(names) - 1:
        raise InputError(f"the packed request must hold {REQUEST_FILE} once")
    if pictures != [picture_name(i) for i in range(len(pictures))]:
        raise InputError(f"the packed request holds files other than {REQUEST_FILE} and numbered pictures")


def _check_sizes(sizes: list[tuple[str, int]], limits: PackingLimits) -> None:
    if len(sizes) > limits.members:
        raise InputError(f"the request needs {len(sizes)} files, and {limits.members} are allowed")
    for name, size in sizes:
        if size > limits.member:
            raise InputError(f"{name} in the packed request has {size} bytes, and {limits.member} are allowed")
    if (total := sum(size for _, size in sizes)) > limits.total:
        raise InputError(f"the packed request holds {total} bytes, and {limits.total} are allowed")
