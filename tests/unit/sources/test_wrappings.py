"""The same messages in every container and envelope give the same records, and every line is counted."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases
from test_dialects import market
from test_every_source import BYBIT, OKX
from venue_lines import VENUE_LINES

from deltabook.schemas.errors import InputError
from deltabook.udfs.simulator import binance
from deltabook.udfs.sources.common.envelopes import split_line
from deltabook.udfs.sources.recognition import recognize_file
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.containers import list_members, open_file
from deltabook.udfs.storage.raw_files import hash_file, list_raw_files

START, STEP = 1723161255_000_000_000, 7_000_000
"""Receive time of the first line, and time between two lines, ns: whole milliseconds."""


def binance_lines() -> list[bytes]:
    """Return messages of a simulated capture without their receive times."""
    return [line.split(b" ", 1)[1] for line in binance.capture_lines(market(), 40, "BTCUSDT")]


LINES = {"okx": OKX, "bybit": BYBIT, "binance": binance_lines()} | VENUE_LINES


def _iso(time: int) -> str:
    moment = datetime.fromtimestamp(time // 10**9, UTC).replace(microsecond=time % 10**9 // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _frame(time: int, message: bytes) -> bytes:
    frame = {"t": "recv", "conn": "X.ws.1", "ts": time / 10**9, "data": message.decode()}
    return json.dumps(frame).encode()


ENVELOPES: dict[str, Callable[[int, bytes], bytes]] = {
    "ns": lambda time, message: b"%d %s" % (time, message),
    "µs": lambda time, message: b"%d %s" % (time // 10**3, message),
    "ms": lambda time, message: b"%d\t%s" % (time // 10**6, message),
    "s": lambda time, message: str(Decimal(time).scaleb(-9)).encode() + b": " + message,
    "ISO": lambda time, message: _iso(time).encode() + b" " + message,
    "ISO with offset": lambda time, message: _iso(time).encode().replace(b"Z", b"+00:00") + b" " + message,
    "frame": _frame,
    "object": lambda time, message: b'{"ts":%d,"msg":%s}' % (time // 10**6, message),
    "text in object": lambda time, message: json.dumps({"recv_ns": time, "raw": message.decode()}).encode(),
}


def _pack_zip(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("capture", data)
    return packed.getvalue()


def _pack_tar(data: bytes, mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("capture")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _pack_arrow(kind: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        half = len(data) // 2
        return b"".join(pa.Codec(kind).compress(part, asbytes=True) for part in (data[:half], data[half:]))

    def pack_stream(data: bytes) -> bytes:
        packed = pa.BufferOutputStream()
        with pa.CompressedOutputStream(packed, kind) as stream:
            stream.write(data)
        return packed.getvalue().to_pybytes()

    return pack if kind == "zstd" else pack_stream


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip of two members": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    "bzip2": bz2.compress,
    "xz of two streams": lambda data: lzma.compress(data[:50]) + lzma.compress(data[50:]),
    "zstd of two frames": _pack_arrow("zstd"),
    "lz4": _pack_arrow("lz4"),
    "zip": _pack_zip,
    "tar": lambda data: _pack_tar(data, "w"),
    "tar.gz": _pack_tar,
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: b"\xff\xfe" + data.decode().encode("utf-16-le"),
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "NUL bytes first": lambda data: b"\0" * 4096 + data,
    "no last newline": lambda data: data.removesuffix(b"\n"),
}


def wrap(lines: list[bytes], names: list[str]) -> bytes:
    """Return a file of messages, each in its envelope; responses to requests stay as they are."""
    wrapped = []
    for number, (line, name) in enumerate(zip(lines, names, strict=True)):
        message = line.rstrip(b"\n")
        is_response = message.startswith(b"http")
        wrapped.append(message if is_response else ENVELOPES[name](START + number * STEP, message))
    return b"\n".join(wrapped) + b"\n"


def read(source: str, path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a file without its path, sorted by line, and the number of counted lines."""
    reader = SOURCES[source]({"path": str(path)}).reader(None)
    rows = [row for part in reader.partitions() for batch in reader.read(part) for row in batch.to_pylist()]
    (end,) = [row for row in rows if row["record"] == "file"]
    assert end["kind"] == "read", end["reason"]
    records = [{**row, "source_file": ""} for row in rows if row["record"] != "file"]
    assert not [row for row in records if row["record"] == "quarantine"]
    return sorted(records, key=lambda row: row["source_row"]), sum(json.loads(end["reason"]).values())


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("source", LINES)
def test_every_container_and_envelope_gives_the_same_records(source, container, tmp_path):
    lines, path = LINES[source], tmp_path / "capture"
    path.write_bytes(wrap(lines, ["ns"] * len(lines)))
    usual, counted = read(source, path)
    assert usual and counted == len(lines)
    for name in ENVELOPES:
        path.write_bytes(CONTAINERS[container](wrap(lines, [name] * len(lines))))
        assert read(source, path) == (usual, len(lines)), name
        assert recognize_file(str(path)).source == source


@given(st.data())
@cases(60)
def test_lines_of_several_envelopes_in_one_file_give_the_same_records(tmp_path_factory, data):
    source = data.draw(st.sampled_from(sorted(LINES)))
    lines, path = LINES[source], tmp_path_factory.mktemp("mixed") / "capture"
    path.write_bytes(wrap(lines, ["ns"] * len(lines)))
    usual = read(source, path)
    names = data.draw(st.lists(st.sampled_from(sorted(ENVELOPES)), min_size=len(lines), max_size=len(lines)))
    path.write_bytes(wrap(lines, names))
    assert read(source, path) == usual


FORMS: dict[str, Callable[[list[Any]], str]] = {
    "array": json.dumps,
    "printed array": lambda messages: json.dumps(messages, indent=2),
    "printed messages": lambda messages: "\n".join(json.dumps(message, indent=1) for message in messages),
    "joined": lambda messages: "".join(map(json.dumps, messages)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", ["okx", "bybit", "deribit", "kraken_futures"])
def test_messages_that_are_not_lines_give_the_same_records(source, form, tmp_path):
    path = tmp_path / "capture"
    path.write_bytes(b"".join(LINES[source]))
    usual = read(source, path)
    path.write_text(FORMS[form]([json.loads(line) for line in LINES[source]]))
    assert read(source, path) == usual
    assert recognize_file(str(path)).source == source


@pytest.mark.parametrize(
    ("line", "received", "payload"),
    [
        (
            b'{"capture_ns":123456789,"stream":"a@depth","data":{"e":1}}',
            -1,
            b'{"stream":"a@depth","data":{"e":1}}',
        ),
        (b'{"ts":1723161255.5,"msg":{"a":1.50}}', 1723161255_500_000_000, b'{"a":1.50}'),
        (b'{"topic":"x","ts":1723161255208,"data":{}}', -1, b'{"topic":"x","ts":1723161255208,"data":{}}'),
        (b'{"data":[1],"channel":"c","event":"data"}', -1, b'{"data":[1],"channel":"c","event":"data"}'),
        (b'{"ts":"soon","msg":{}}', -1, b'{"ts":"soon","msg":{}}'),
        (b'1723161255208123 {"a":1}', 1723161255_208_123_000, b'{"a":1}'),
        (b'2024-08-08T23:54:15.208123456Z {"a":1}', 1723161255_208_123_456, b'{"a":1}'),
        (b'2024-08-09T01:54:15+02:00 {"a":1}', 1723161255_000_000_000, b'{"a":1}'),
    ],
)
def test_an_envelope_is_opened_or_left_to_the_venue(line, received, payload):
    split = split_line(line)
    assert (split.received, split.payload) == (received, payload)


@pytest.mark.parametrize(
    ("kind", "magic", "reason"),
    [
        ("7z", b"7z\xbc\xaf\x27\x1c", "compressed with 7z"),
        ("rar", b"Rar!\x1a\x07\x01", "compressed with RAR"),
        ("png", b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    ],
)
def test_content_that_is_packed_in_an_unknown_way_is_named(kind, magic, reason, tmp_path):
    path = tmp_path / kind
    path.write_bytes(magic + b"x" * 100)
    with pytest.raises(InputError, match=reason), open_file(str(path)):
        pass
    assert reason in recognize_file(str(path)).reason


def test_an_archive_stands_for_its_files_and_each_has_the_hash_of_its_content(tmp_path):
    content = {"a/one.json": b"".join(OKX), "two.json.gz": gzip.compress(b"".join(BYBIT))}
    (tmp_path / "plain").mkdir()
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
            (tmp_path / "plain" / Path(name).name).write_bytes(data)
        archive.writestr("__MACOSX/._one.json", b"x")
    files = list_raw_files([tmp_path / "both.zip"])
    assert [str(file) for file in files] == [f"{tmp_path}/both.zip!/{name}" for name in sorted(content)]
    assert list_members(str(tmp_path / "both.zip")) == [str(file) for file in files]
    for file, name in zip(files, sorted(content), strict=True):
        assert hash_file(file) == hash_file(tmp_path / "plain" / Path(name).name)
    assert [recognize_file(str(file)).source for file in files] == ["okx", "bybit"]
    assert read("okx", files[0])[0] == read("okx", tmp_path / "plain" / "one.json")[0]
