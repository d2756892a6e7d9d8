"""Recognizes what a raw file is by its content: container, envelope, and the source that reads its messages.

The beginning of a file decides. Each source says whether a message has the form of its venue's messages, and
connection lines and responses name the venue's host.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import msgspec
import pyarrow.parquet as pq

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.binance.depth_csv import is_depth_csv
from deltabook.udfs.sources.common.documents import is_by_lines, one_message_per_line
from deltabook.udfs.sources.common.envelopes import Line, describe_envelope, split_line
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.containers import UNREADABLE, describe_container, is_parquet, open_file
from deltabook.udfs.storage.raw_files import has_name_of_document

_MOST_BYTES = 1 << 20
_ENOUGH = 200
"""Number of recognized messages after which the rest of the beginning is not looked at."""
_TARDIS_HEAD = b"exchange,symbol,timestamp,local_timestamp,"
_DEFLATED = (b"b'", b'b"')


@dataclass(frozen=True)
class Recognition:
    """What a raw file is.

    Attributes
    ----------
    source : str
        Name of the source that reads the file; empty if none was recognized, or several were.
    container : str
        Compression and archive, such as ``gzip``; empty for a plain file.
    envelope : str
        What stands around each message, such as ``receive time, ns``; empty for messages alone.
    fits : mapping
        {name of a source: number of lines that it recognizes}.
    lines : int
        Number of lines that were looked at; 0 for Parquet files and an empty file.
    reason : str
        Why no source was recognized; empty if one was, and for an empty file.
    is_document : bool
        True for a file that is no data, such as a README or a picture.
    is_empty : bool
        True for a file without content.
    """

    source: str = ""
    container: str = ""
    envelope: str = ""
    fits: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    reason: str = ""
    is_document: bool = False
    is_empty: bool = False


def recognize_file(path: str) -> Recognition:
    """Recognize a raw file.

    Parameters
    ----------
    path : str
        Path of the file, or `ARCHIVE!/FILE`.

    Returns
    -------
    Recognition
        What the file is. A file that cannot be read has no source, and a reason.
    """
    is_document = has_name_of_document(path)
    try:
        if is_parquet(path):
            return _recognize_parquet(path)
        container = describe_container(path)
        with open_file(path) as stream:
            head = stream.read(_MOST_BYTES)
    except (*UNREADABLE, InputError) as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        return Recognition(reason=reason, is_document=is_document or "picture" in reason or "PDF" in reason)
    if not head.strip():
        return Recognition(container=container, is_empty=True)
    if head.startswith(_TARDIS_HEAD):
        return Recognition("tardis", container, fits=Counter(tardis=1), lines=1)
    if is_depth_csv(head):
        return Recognition("binance", container, "T_DEPTH table", Counter(binance=1), 1)
    found = replace(_recognize_messages(head), container=container)
    return found if found.source else replace(found, is_document=is_document)


def _recognize_parquet(path: str) -> Recognition:
    """Recognize a table of Crypto Lake by its columns."""
    from deltabook.udfs.sources.crypto_lake.columns import detect_layout

    try:
        detect_layout(pq.read_schema(path))
    except InputError as error:
        return Recognition(reason=str(error))
    return Recognition("crypto_lake", "Parquet", fits=Counter(crypto_lake=1))


def _recognize_messages(head: bytes) -> Recognition:
    """Recognize the messages at the beginning of a file."""
    whole = head[: head.rfind(b"\n") + 1] or head
    fits: Counter[str] = Counter()
    hosts: Counter[str] = Counter()
    lines, envelope, first_data, data_lines = 0, "", b"", 0
    for raw in _split_lines(whole):
        lines += 1
        try:
            line = split_line(raw)
        except ValueError:
            continue
        hosts.update(_sources_of_host(line.url))
        if not line.payload:
            continue
        names = list(_sources_of_message(line))
        if line.payload[:1] in b"{[" or line.payload.startswith(_DEFLATED):
            data_lines += 1
            first_data = first_data or line.payload
        if names and not fits:
            envelope = describe_envelope(raw)
        fits.update(names)
        if fits.total() >= _ENOUGH:
            break
    form = "" if is_by_lines(whole) else "JSON documents"
    envelope = ", ".join(filter(None, (form, envelope)))
    if source := _choose(fits, hosts):
        return Recognition(source, envelope=envelope, fits=fits, lines=lines)
    if fits:
        counted = " and ".join(f"{name} ({count:,} lines)" for name, count in fits.most_common())
        reason = f"the file fits {counted}. Name the source, or split the file"
    elif data_lines:
        shown = first_data[:80].decode("utf-8", "replace")
        reason = f"none of the {lines:,} lines looked at is a message of a known venue; the first: {shown}"
    else:
        shown = whole[:60].split(b"\n")[0].decode("utf-8", "backslashreplace")
        reason = f"no capture of a venue: the file starts with {shown!r}"
    return Recognition(envelope=envelope, fits=fits, lines=lines, reason=reason)


def _split_lines(text: bytes) -> Iterator[bytes]:
    try:
        for block in one_message_per_line([text]):
            yield from block.splitlines()
    except InputError:
        return


def _choose(fits: Counter[str], hosts: Counter[str]) -> str:
    """Return the source of a file's messages; empty if none or several fit.

    The host of the connection decides between several that fit, and alone if no message is known yet.
    """
    if len(fits) == 1:
        return next(iter(fits))
    named = [name for name in hosts if name in fits or not fits]
    return named[0] if len(named) == 1 else ""


def _sources_of_host(url: str) -> list[str]:
    """Return the sources whose venue has the host of a URL; the longest matching end of the host decides."""
    host = urlsplit(url).hostname or "" if url else ""
    ends = {
        (len(end), name)
        for name, source in SOURCES.items()
        for end in source.hosts
        if host == end or host.endswith(f".{end}")
    }
    return [name for length, name in ends if length == max(ends)[0]]


def _sources_of_message(line: Line) -> Iterator[str]:
    """Yield the names of the sources that recognize a message."""
    if line.payload.startswith(_DEFLATED):
        yield "okx"
        return
    if line.url:  # a response: the host names the venue, and a REST book has no other mark
        yield from _sources_of_host(line.url)
        return
    try:
        message: object = msgspec.json.decode(line.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        try:
            message = json.loads(line.payload)
        except (ValueError, RecursionError):
            return
    for name, source in SOURCES.items():
        if source.recognizes(message):
            yield name
