"""Format times, durations, shares and sizes as text, and parse times that users type."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import ALL_HOURS, INT64_MAX, NANOSECONDS_PER_SECOND, NOT_GIVEN

_UNIX_UNITS = {10: NANOSECONDS_PER_SECOND, 13: 10**6, 16: 10**3}
"""Maps the number of digits before the decimal point of a Unix timestamp to the timestamp's unit in ns.

10 digits are seconds, 13 are ms and 16 are µs. Times from 2001 to 2286 have these numbers of digits.
"""
_LEAST_NANOSECONDS = 10**17  # a time in 1973; a smaller number is not taken for a time in nanoseconds
_UNIX_TIME = re.compile(r"(\d+)(?:\.(\d+))?", re.ASCII)
_FRACTION = re.compile(r"(:\d\d)\.(\d+)")

_SIZE_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def parse_time(text: str) -> int:
    """Parse ISO 8601 text or a Unix timestamp, and return the time in ns since 1970 UTC.

    Parameters
    ----------
    text : str
        ISO 8601 text, or a Unix timestamp. ISO 8601 text without an offset is in UTC. The number of digits of
        a timestamp decides its unit: 10 digits are seconds, 13 milliseconds, 16 microseconds, 18 or 19
        nanoseconds. A timestamp in seconds, ms or µs may have a fraction. Digits below 1 ns are dropped.

    Returns
    -------
    int
        The time, ns since 1970 UTC, clipped to the range of a non-negative int64.

    Raises
    ------
    SettingsError
        If the text is neither ISO 8601 nor a Unix timestamp.
    """
    if (stamp := _parse_unix_time(text)) is not None:
        return stamp
    # datetime stores only six digits of a fraction. The fraction is therefore parsed separately.
    fraction = _FRACTION.search(text)
    try:
        moment = None if text.isdecimal() else datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    except ValueError:
        moment = None
    if moment is None:
        raise SettingsError(
            f"time {text!r}: expected ISO 8601 such as 2024-08-09T00:01:02.5Z, or a Unix timestamp in "
            "seconds (10 digits), milliseconds (13), microseconds (16) or ns since 1970 (19 digits)"
        )
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime.fromtimestamp(0, UTC)
    seconds = since.days * 86_400 + since.seconds
    nanoseconds = int(fraction[2].ljust(9, "0")[:9]) if fraction else 0
    return min(max(seconds * NANOSECONDS_PER_SECOND + nanoseconds, 0), INT64_MAX)


def _parse_unix_time(text: str) -> int | None:
    """Convert a Unix timestamp to ns; return None if the text is not a number or has no inferable unit."""
    match = _UNIX_TIME.fullmatch(text)
    if match is None:
        return None
    whole, fraction = match.groups()
    if (unit := _UNIX_UNITS.get(len(whole))) and whole[0] != "0":
        digits = len(str(unit)) - 1
        stamp = int(whole) * unit + int((fraction or "").ljust(digits, "0")[:digits])
    elif fraction is None:
        stamp = int(whole)
    else:
        return None
    return stamp if _LEAST_NANOSECONDS <= stamp <= INT64_MAX else None


def parse_period(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Parse the values of the options `--from` and `--to`.

    Parameters
    ----------
    start, end : str or None
        Values of `--from` (inclusive) and `--to` (exclusive), in a format that `parse_time` reads. None means
        no bound.

    Returns
    -------
    (int or None, int or None)
        Start and end, ns since 1970 UTC; None means no bound.

    Raises
    ------
    SettingsError
        If a time cannot be parsed, or if the end is not after the start.
    """
    first, last = (None if text is None else parse_time(text) for text in (start, end))
    if first is not None and last is not None and last <= first:
        raise SettingsError(f"--to {end} is not after --from {start}: pass a later --to or an earlier --from")
    return first, last


def format_time(nanoseconds: int) -> str:
    """Return a time as ISO 8601 text, to the nanosecond.

    Parameters
    ----------
    nanoseconds : int
        The time, ns since 1970 UTC.

    Returns
    -------
    str
        Text such as "2024-08-09T00:01:02.500000000Z".
    """
    seconds, fraction = divmod(nanoseconds, NANOSECONDS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


def format_chunk(start: int) -> str:
    """Return the start of a chunk as ISO 8601 text, to the second.

    Parameters
    ----------
    start : int
        Start of the chunk, ns since 1970 UTC, or `ALL_HOURS` for a row about all chunks of a symbol.

    Returns
    -------
    str
        Text such as "2024-08-09T00:00:00Z", or "all hours".
    """
    return "all hours" if start == ALL_HOURS else f"{format_time(int(start))[:19]}Z"


def format_short_time(nanoseconds: int) -> str:
    """Return a time as ISO 8601 text without trailing zeros.

    Parameters
    ----------
    nanoseconds : int
        The time, ns since 1970 UTC, or `NOT_GIVEN`.

    Returns
    -------
    str
        Text such as "2024-08-09T00:01:02.5Z"; a dash for `NOT_GIVEN`.
    """
    if nanoseconds == NOT_GIVEN:
        return "–"
    return format_time(int(nanoseconds)).rstrip("0Z").rstrip(".") + "Z"


def format_duration(nanoseconds: float) -> str:
    """Return a duration as text in seconds, minutes or hours, depending on its length.

    Parameters
    ----------
    nanoseconds : float
        The duration in ns.

    Returns
    -------
    str
        Text such as "0.25 s", "12.5 min" or "1,234.0 h".
    """
    seconds = nanoseconds / NANOSECONDS_PER_SECOND
    if seconds < 120:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def format_share(part: float, whole: float, digits: int = 3) -> str:
    """Return a share as text in percent.

    Rounding never turns a share below 100 % into 100 %, nor a share above 0 % into 0 %.

    Parameters
    ----------
    part, whole : float
        Two amounts in the same unit; `part` is at most `whole`.
    digits : int
        Number of digits after the decimal point.

    Returns
    -------
    str
        Text such as "99.969 %"; a dash if `whole` is 0.
    """
    if not whole:
        return "–"
    smallest = 10.0**-digits
    percent = 100 * part / whole
    percent = min(percent, 100 - smallest) if part < whole else percent
    return f"{max(percent, smallest) if part else 0:.{digits}f} %"


def format_match(matched: int, compared: int) -> str:
    """Return a text that says how many of the compared values are equal, as a number and in percent.

    Parameters
    ----------
    matched, compared : int
        Number of comparisons that found equal values, and number of all comparisons.

    Returns
    -------
    str
        Text such as "6,491 of 6,493 equal (99.9692 %)".
    """
    return f"{matched:,} of {compared:,} equal ({format_share(matched, compared, 4)})"


def format_size(size: float) -> str:
    """Return a size as text in bytes, kB, MB, GB or TB, depending on its magnitude; 1 kB is 1,000 bytes.

    Parameters
    ----------
    size : float
        The size in bytes.

    Returns
    -------
    str
        Text such as "512 bytes" or "6.8 MB".
    """
    unit = 0
    while size >= 1000 and unit < len(_SIZE_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_SIZE_UNITS[unit]}" if unit else f"{size:,} {_SIZE_UNITS[0]}"
