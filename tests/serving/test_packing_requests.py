from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from verify_kit import NAME, one_person

from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.conversation import Turn
from mllmeraser.samples.request import Request
from mllmeraser.samples.subject import KINDS, PERSON, Kind, Subject
from mllmeraser.serving.packing import PackingLimits, pack_request, request_digests, unpack_request
from tiny import picture

GOOD = pack_request(one_person())


def members(data: bytes = GOOD) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def with_request(change: Any) -> bytes:
    files = members()
    described = json.loads(files["request.json"])
    change(described)
    return zipped({**files, "request.json": json.dumps(described).encode()})


def png(width: int, height: int) -> bytes:
    """A PNG whose header states a size, with next to no data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def same(left: Request, right: Request) -> bool:
    def plain(request: Request) -> list[Any]:
        def of(samples: tuple[Sample, ...]) -> list[Any]:
            shown = [None if s.image is None else (s.image.size, s.image.tobytes()) for s in samples]
            return [(replace(s, image=None), image) for s, image in zip(samples, shown, strict=True)]

        about = [(s.key, s.names, s.attributes, s.exact_names, s.kind, of(s.samples)) for s in request.subjects]
        return [about, of(request.retain), of(request.strangers), request.reply]

    return plain(left) == plain(right)


# -- there and back --------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=20)
images = st.none() | st.builds(picture, st.integers(0, 5), st.tuples(st.integers(8, 40), st.integers(8, 40)))
samples = st.builds(
    Sample, question=texts, image=images, answer=st.none() | texts,
    task=st.sampled_from(["generation", "cloze", "classification"]),
    options=st.lists(st.tuples(texts, texts), max_size=3).map(tuple), keywords=st.lists(texts, max_size=2).map(tuple),
    subject=st.none() | texts, id=texts, attribute=st.none() | texts,
    before=st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), texts), max_size=2).map(tuple),
)  # fmt: skip
some = st.lists(samples, max_size=3).map(tuple)


def subjects(kinds: st.SearchStrategy[Kind], exact_names: st.SearchStrategy[bool]) -> st.SearchStrategy[Any]:
    one = st.builds(
        Subject, key=texts, names=st.lists(texts.map("N{}".format), max_size=2).map(tuple),
        samples=st.lists(samples, min_size=1, max_size=3).map(tuple), attributes=st.lists(texts, max_size=2).map(tuple),
        exact_names=exact_names, kind=kinds,
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda s: s.key).map(tuple)


people = subjects(st.just(PERSON), st.booleans())
things = subjects(st.sampled_from([kind for kind in KINDS if kind != PERSON]), st.just(False))
mixed = subjects(st.sampled_from(KINDS), st.booleans())
requests = st.builds(Request, people | things | mixed, some, some, st.none() | texts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests)
def test_a_request_comes_back(request: Request) -> None:
    try:
        request.validate()
    except InputError:
        with pytest.raises(InputError):
            pack_request(request)
        return
    packed = pack_request(request)
    assert same(unpack_request(packed), request)
    assert pack_request(unpack_request(packed)) == packed == pack_request(request)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_harmless(data: st.DataObject) -> None:
    packed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)) | st.just(len(packed)))
    try:
        unpack_request(bytes(packed[:cut]))
    except InputError as error:
        assert NAME not in str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        unpack_request(data)


def test_a_picture_is_kept_once_and_shared() -> None:
    image, twin = picture(1), picture(1)
    request = Request((Subject("p", (), (Sample("a", image), Sample("b", twin), Sample("c", image))),))
    packed = pack_request(request)
    assert set(members(packed)) == {"request.json", "images/00000.png"}
    assert len({id(s.image) for s in unpack_request(packed).forget}) == 1


def test_a_picture_loses_what_else_its_file_said() -> None:
    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("Comment", "at the harbour")
    picture(1).save(buffer, format="PNG", pnginfo=info)
    image = Image.open(io.BytesIO(buffer.getvalue()))
    image.load()
    packed = pack_request(Request((Subject("p", (), (Sample("Who?", image),)),)))
    assert b"harbour" not in packed and not unpack_request(packed).forget[0].image.info  # type: ignore[union-attr]


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../evil.png", "/etc/passwd", "images/../../x.png", "images/0.png", "images/00007.png", "images\\00000.png",
     "images/", "request.json/x", "IMAGES/00001.PNG"],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="files other than|not a sound zip|encrypted"):
        unpack_request(zipped({**members(), name: b"x"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused() -> None:
    for name in ("request.json", "images/00000.png"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in [*members().items(), (name, b"{}")]:
                archive.writestr(member, data)
        with pytest.raises(InputError, match="once|files other than"):
            unpack_request(buffer.getvalue())


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    limits = PackingLimits(member=1000, total=100_000)
    with pytest.raises(InputError, match="request.json .* 5000 bytes"):
        unpack_request(zipped({"request.json": bytes(5000)}), limits)
    files = {f"images/{i:05d}.png": bytes(900) for i in range(200)}
    with pytest.raises(InputError, match="in the packed request holds|holds 180002 bytes"):
        unpack_request(zipped({"request.json": b"{}", **files}), limits)


def test_a_stated_size_that_is_a_lie_is_refused() -> None:
    packed = bytearray(zipped({"request.json": bytes(50_000)}))
    place = packed.rindex(b"PK\x01\x02")
    packed[place + 24 : place + 28] = struct.pack("<I", 10)
    with pytest.raises(InputError):
        unpack_request(bytes(packed), PackingLimits(member=1000))


def test_too_many_files_are_refused_before_their_list_is_read() -> None:
    files = {"request.json": b"{}", **{f"images/{i:05d}.png": b"" for i in range(300)}}
    with pytest.raises(InputError, match="too many files"):
        unpack_request(zipped(files), PackingLimits(members=10))
    with pytest.raises(InputError, match="301 files"):
        unpack_request(zipped(files), PackingLimits(members=300))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(InputError, match=f"{len(GOOD)} bytes"):
        unpack_request(GOOD, PackingLimits(total=len(GOOD) - 1))


@pytest.mark.parametrize("size", [(60_000, 60_000), (5001, 5000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="pixels|unreadable image"):
        unpack_request(zipped({**members(), "images/00000.png": png(*size)}))


def test_many_large_pictures_are_refused_together() -> None:
    with pytest.raises(InputError, match="in all"):
        unpack_request(GOOD, PackingLimits(all_pixels=1000))


@pytest.mark.parametrize("data", [b"", b"GIF89a", png(8, 8), b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_broken_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="00000.png: (unreadable|an) image"):
        unpack_request(zipped({**members(), "images/00000.png": data}))


def test_other_compression_and_comments_are_refused() -> None:
    with pytest.raises(InputError, match="compressed"):
        unpack_request(zipped(members(), zipfile.ZIP_BZIP2))
    buffer = io.BytesIO(GOOD)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"hello"
    with pytest.raises(InputError, match="not a sound zip"):
        unpack_request(buffer.getvalue())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format=2), "format"),
        (lambda d: d.pop("format"), "format"),
        (lambda d: d.update(more=1), "more: not known"),
        (lambda d: d.update(subjects={}), "subjects"),
        (lambda d: d.update(subjects=[]), "other pictures"),
        (lambda d: d["subjects"][0].pop("key"), "subjects.0.key"),
        (lambda d: d["subjects"][0].update(names=NAME), "names"),
        (lambda d: d["subjects"][0]["samples"][0].update(image="../x.png"), "image"),
        (lambda d: d["subjects"][0]["samples"][0].update(image=7), "other pictures"),
        (lambda d: d["subjects"][0]["samples"][0].update(image=-1), "other pictures"),
        (lambda d: d["subjects"][0]["samples"].pop(), "other pictures"),
        (lambda d: d["subjects"][0]["samples"][0].update(task="essay"), "task"),
        (lambda d: d["subjects"][0]["samples"][0].update(options=[["A"]]), "options"),
        (lambda d: d["subjects"][0]["samples"][0].update(before=[{"role": "tool", "text": "x"}]), "role"),
        (lambda d: d["subjects"].append(d["subjects"][0]), "twice"),
        (lambda d: d["subjects"][0].update(kind="planet"), "kind: Input should be 'person', 'entity'"),
        (lambda d: d["subjects"][0].update(kind=None), "subjects.0.kind"),
        (lambda d: d["subjects"].append({**d["subjects"][0], "key": "q", "kind": "topic"}), "different gates"),
        (lambda d: d["subjects"][0].update(kind="topic", exact_names=True), "exact_names is for people"),
    ],
)
def test_another_schema_is_refused_without_a_quote(change: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        unpack_request(with_request(change))
    assert NAME not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 200_000])
def test_a_request_that_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="request.json"):
        unpack_request(zipped({**members(), "request.json": text}))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (PackingLimits(pixels=100), "24 x 24 pixels"),
        (PackingLimits(all_pixels=600), "in all"),
        (PackingLimits(member=100), "bytes"),
        (PackingLimits(members=2), "3 files"),
        (PackingLimits(total=500), "bytes"),
        (PackingLimits(samples=1), "2 prompts"),
    ],
)
def test_what_could_not_be_unpacked_is_not_packed(limits: PackingLimits, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pack_request(one_person(), limits)


def test_text_that_is_no_unicode_is_not_packed() -> None:
    with pytest.raises(InputError, match="Unicode"):
        pack_request(Request((Subject("p", (), (Sample("\ud800"),)),)))


def test_digests_can_be_compared_and_name_nobody() -> None:
    found = request_digests(one_person(), "salt")
    assert found == request_digests(unpack_request(GOOD), "salt")
    assert found["forget_digest"] != request_digests(one_person(), "pepper")["forget_digest"]
    assert found["subjects"] == "1" and found["forget_prompts"] == "2" and "retain_digest" not in found
    assert NAME not in str(found)


def test_kinds_come_back_and_old_packed_requests_are_about_people() -> None:
    about = (Subject("x", ("Japan",), (Sample("What is the capital of Japan?", subject="x"),), kind="fact"),)
    wanted = Request(about, reply="The capital of Japan is Kyoto.")
    packed = pack_request(wanted)
    assert same(unpack_request(packed), wanted)
    assert request_digests(wanted, "salt")["kind_fact"] == request_digests(one_person(), "salt")["kind_person"] == "1"
    described = json.loads(members()["request.json"])
    assert "kind" not in described["subjects"][0], "a request about people is packed as before there were kinds"
    assert unpack_request(GOOD).about_people and json.loads(members(packed)["request.json"])["format"] == 1


def test_a_turn_with_a_picture_is_not_dropped_in_silence() -> None:
    asked = Sample("Who?", picture(1), before=(Turn("user", "Look.", (picture(2),)),))
    with pytest.raises(InputError, match="a turn before a question holds a picture"):
        pack_request(Request((Subject("p", (), (asked,)),)))


def test_an_empty_request_is_refused() -> None:
    with pytest.raises(InputError, match="forget set is empty"):
        unpack_request(zipped({"request.json": b'{"format": 1, "subjects": []}'}))
