"""Envelopes: what recorders put around a venue's message, such as the receive time.

A line is one of

- `<receive time> <message>` or `<receive time>: <message>`. The time is an integer (s, ms, µs or ns; the
  number of digits shows the unit), seconds with decimals, or ISO 8601 text (UTC if it names no offset);
- `<URL> -> <receive time>: <message>`: a response to a request (a cryptofeed dump, `.http.` files);
- `wss://… <-> …`, `wss://… <- …`, `<URL> <- …`: a connection or a request, without a message;
- `{"t":"recv","conn":…,"ts":…,"data":…}`, with `connect`, `send` and `header` lines (a cryptofeed dump of
  format 2 and later);
- a JSON object that has a receive time, the message or its text, and nothing of a venue: `{"ts","msg"}`,
  `{"capture_ns","stream","data"}`. A clock that is no time since 1970 is not used;
- the message alone.

Every line is read by itself, so a file may mix envelopes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from deltabook.schemas.names import INT64_MAX, NANOSECONDS_PER_SECOND, NOT_GIVEN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = (
    rb"\d{19}|\d{16}|\d{13}|\d{9,11}(?:\.\d{1,12})?"
    rb"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,12})?(?:Z|[+-]\d\d:\d\d)?"
)
_STAMPED = re.compile(rb"(" + _TIME + rb")(?:: |[ \t,;|]+)(?=[\[{]|b['\"]|p[io]ng)")
_SECONDS = re.compile(rb"(\d{9,11}(?:\.\d{1,12})?): ")
_RESPONSE = re.compile(rb"(https?://\S+) -> (\d{9,11}(?:\.\d{1,12})?): ")
_CONNECTION = re.compile(rb"((?:wss?|https?)://\S+) (?:<->|<-|->)")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)

_TIME_KEYS = frozenset(
    """
    ts t time timestamp received received_at received_time receive_time receive_ts recv recv_time
    recv_ts receipt_timestamp local_time local_ts local_timestamp arrival arrival_time rx rx_ts
    capture_time capture_ts capture_ns recv_ns receive_ns received_ns ts_ns time_ns local_ns recv_us
    ts_us recv_ms ts_ms received_ms local_ts_ms
    """.split()  # noqa: SIM905
)
_MESSAGE_KEYS = frozenset(
    """
    data msg message raw payload body frame
    """.split()  # noqa: SIM905
)
_LABEL_KEYS = frozenset(
    """
    t conn connection stream exchange venue symbol source id seq type direction dir addr url host
    market kind n
    """.split()  # noqa: SIM905
)
_KEYS = _TIME_KEYS | _MESSAGE_KEYS | _LABEL_KEYS
_JSON_ENVELOPE = re.compile(rb'\s*\{\s*"(?:' + b"|".join(sorted(key.encode() for key in _KEYS)) + rb')"\s*:')
_FRAME = re.compile(rb'\s*\{\s*"t"\s*:\s*"(recv|send|connect|disconnect|header|footer|error)"')
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNITS = ((10**9, 0), (10**11, NANOSECONDS_PER_SECOND), (10**14, 10**6), (10**17, 10**3), (INT64_MAX + 1, 1))
"""(upper bound of a printed time, exclusive; ns of its unit). A lower time is no time since 1970."""
_NAMED_UNITS = {"_ns": 1, "_us": 10**3, "_ms": 10**6}
_EARLIEST = 10**18
"""Earliest receive time, ns: the year 2001. A clock below is monotonic: it counts from another moment."""


@dataclass(frozen=True)
class Line:
    """One line, split into its receive time and its message.

    Attributes
    ----------
    received : int
        Receive time, ns since 1970 UTC; -1 if not given.
    payload : bytes
        The message; empty for a blank line, and for a line about a connection or a request.
    url : str
        URL of the request that the message responds to, or of the connection that the line is about; else
        empty.
    connection : str
        Name of the connection that received the message; empty if the line does not name it.
    """

    received: int
    payload: bytes
    url: str = ""
    connection: str = ""


def split_line(line: bytes) -> Line:
    """Split a line into its receive time and its message.

    Parameters
    ----------
    line : bytes
        The line without its newline.

    Returns
    -------
    Line
        The receive time, the message, the URL and the name of the connection.

    Raises
    ------
    ValueError
        If the receive time does not fit int64, or an envelope is not readable.
    """
    if line[:1] == b"\0" or line[-1:] == b"\0":  # space that was allocated and not written
        line = line.strip(b"\0")
        if not line.strip():
            raise ValueError("the line has only NUL bytes: the recorder's lines of this place are lost")
    if match := _STAMPED.match(line) or _SECONDS.match(line):
        return Line(_parse_time(match[1]), line[match.end() :])
    if match := _RESPONSE.match(line):
        return Line(_parse_time(match[2]), line[match.end() :], _to_text(match[1]))
    if match := _CONNECTION.match(line):
        return Line(NOT_GIVEN, b"", _to_text(match[1]))
    if _JSON_ENVELOPE.match(line):
        return _open_json(line)
    return Line(NOT_GIVEN, line if line.strip() else b"")


def describe_envelope(line: bytes) -> str:
    """Return the name of a line's envelope, such as ``receive time, ns``; empty for a message alone.

    Parameters
    ----------
    line : bytes
        The line without its newline.
    """
    if match := _STAMPED.match(line) or _SECONDS.match(line):
        printed = match[1]
        unit = {13: "ms", 16: "µs", 19: "ns"}.get(len(printed)) if printed.isdigit() else None
        return f"receive time, {unit or ('ISO 8601' if b'-' in printed else 's')}"
    if _RESPONSE.match(line):
        return "responses to requests"
    if _JSON_ENVELOPE.match(line) and split_line(line).payload != line:
        if _FRAME.match(line):
            return "cryptofeed frames"
        names = ", ".join(name for name in _MEMBERS.decode(line) if name in _KEYS)
        clock = "" if split_line(line).received != NOT_GIVEN else " (the clock does not count from 1970)"
        return f"JSON object with {names}{clock}"
    return ""


def _open_json(line: bytes) -> Line:
    """Return the content of a line that may be a JSON envelope; the whole line if it is a message."""
    try:
        members = _MEMBERS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Line(NOT_GIVEN, line)  # the reader of messages says what is wrong
    frame = _FRAME.match(line)
    names = members.keys() & _MESSAGE_KEYS
    times = [key for key in members if key in _TIME_KEYS and not (frame and key == "t")]
    if frame and frame[1] != b"recv":
        return Line(NOT_GIVEN, b"", _read_text(members, "addr"), _read_text(members, "conn"))
    if len(names) != 1 or not (times or frame) or (not frame and not members.keys() <= _KEYS):
        return Line(NOT_GIVEN, line)
    received = next((time for key in times if (time := _read_clock(key, members[key])) is not None), None)
    if received is None:
        return Line(NOT_GIVEN, line)
    name = names.pop()
    payload = bytes(members[name])
    if payload.startswith(b'"'):
        payload = msgspec.json.decode(payload, type=str).encode()
    elif payload[:1] not in (b"{", b"["):
        return Line(NOT_GIVEN, line)
    if "stream" in members and payload.startswith(b"{") and not frame:
        payload = b'{"stream":' + bytes(members["stream"]) + b',"data":' + payload + b"}"
    address = _read_text(members, "addr")
    url = address if address.startswith("http") else ""
    return Line(received, payload, url, _read_text(members, "conn") or _read_text(members, "connection"))


def _read_text(members: dict[str, msgspec.Raw], key: str) -> str:
    """Return a text member of an envelope; empty if it is absent or no text."""
    try:
        return msgspec.json.decode(members[key], type=str) if key in members else ""
    except msgspec.DecodeError:
        return ""


def _read_clock(key: str, raw: msgspec.Raw) -> int | None:
    """Return a receive time, ns since 1970 UTC; -1 for a clock with another origin; None if it is no time."""
    printed = bytes(raw).strip(b'"')
    unit = _NAMED_UNITS.get(key[-3:])
    if unit and printed.isdigit():
        time = int(printed) * unit
        return time if _EARLIEST <= time <= INT64_MAX else NOT_GIVEN
    if re.fullmatch(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?", printed):
        return _scale_time(Decimal(printed.decode()))
    return parse_iso_time(printed.decode()) if _ISO.fullmatch(printed.decode("ascii", "replace")) else None


def _parse_time(printed: bytes) -> int:
    """Convert a receive time before a message to ns since 1970 UTC."""
    text = printed.decode()
    if "-" in text:
        return parse_iso_time(text)
    if "." in text or len(text) < 12:
        received = int(Decimal(text) * NANOSECONDS_PER_SECOND)
    else:
        received = int(text) * {13: 10**6, 16: 10**3, 19: 1}[len(text)]
    if received > INT64_MAX:
        raise ValueError(f"receive time {text} does not fit int64 in ns")
    return received


def _scale_time(time: Decimal) -> int:
    """Convert a time of unknown unit to ns since 1970 UTC; -1 if it is no time after 2001."""
    unit = next((unit for bound, unit in _UNITS if time < bound), 0)
    received = int(time * unit)
    return received if _EARLIEST <= received <= INT64_MAX else NOT_GIVEN


def parse_iso_time(text: str) -> int:
    """Convert a venue's ISO 8601 time to ns since 1970 UTC.

    Parameters
    ----------
    text : str
        A time such as 2021-07-22T23:16:39.168123Z, with up to 12 decimals; UTC if it names no offset.

    Returns
    -------
    int
        The time, cut to whole ns.

    Raises
    ------
    ValueError
        If the text is no such time, or the time does not fit int64 in ns.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a time like 2021-07-22T23:16:39.168Z, found {text[:80]!r}")
    day, clock, fraction, zone = match.groups()
    moment = datetime.fromisoformat(f"{day}T{clock}{(zone or 'Z').replace('Z', '+00:00')}")
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    received = seconds * NANOSECONDS_PER_SECOND + int((fraction or "0").ljust(9, "0")[:9])
    if not 0 <= received <= INT64_MAX:
        raise ValueError(f"time {text} does not fit int64 in ns")
    return received


def _to_text(url: bytes) -> str:
    return url.decode("ascii", "replace")
