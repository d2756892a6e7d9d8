"""How times, lengths of time, shares and sizes are read and printed."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import ALL_HOURS, NANOSECONDS_PER_SECOND, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import INT64_MAX

_LEAST_NANOSECONDS = 10**17  # 1973; a smaller number is a time in another unit
# 1973; a smaller number is a time in another unit
_FRACTION = re.compile(r"(:\d\d)\.(\d+)")

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def parse_time(text: str) -> int:
    """Read a time given as ISO 8601 (UTC unless it names an offset) or as ns since 1970 UTC.

    Raises
    ------
    SettingsError
        If it is neither.
    """
    if text.isascii() and text.isdecimal() and _LEAST_NANOSECONDS <= int(text) <= INT64_MAX:
        return int(text)
    # datetime keeps six digits of a fraction: the fraction is read apart.
    fraction = _FRACTION.search(text)
    try:
        moment = None if text.isdecimal() else datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    except ValueError:
        moment = None
    if moment is None:
        raise SettingsError(
            f"time {text!r}: expected ISO 8601 such as 2024-08-09T00:01:02.5Z, or ns since 1970 (19 digits)"
        )
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime.fromtimestamp(0, UTC)
    seconds = since.days * 86_400 + since.seconds
    nanoseconds = int(fraction[2].ljust(9, "0")[:9]) if fraction else 0
    return min(max(seconds * NANOSECONDS_PER_SECOND + nanoseconds, 0), INT64_MAX)


def show_time(nanoseconds: int) -> str:
    """Print a time in ns as ISO 8601, UTC, to the ns."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def hour_text(hour: int) -> str:
    """Print a symbol-hour's time as ISO 8601, UTC."""
    return "all hours" if hour == ALL_HOURS else f"{show_time(int(hour))[:19]}Z"


def time_text(time: int) -> str:
    """Print a time in ns, UTC, without the zeros at its end; a dash if there is none."""
    return "–" if time == NOT_GIVEN else show_time(int(time)).rstrip("0Z").rstrip(".") + "Z"


def length_text(nanoseconds: float) -> str:
    """Print a length of time, with the unit that suits it."""
    seconds = nanoseconds / NANOSECONDS_PER_SECOND
    if seconds < 120:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def share_text(part: float, whole: float, digits: int = 3) -> str:
    """Print a share in percent; one that is not whole never reads as 100, nor 0."""
    if not whole:
        return "–"
    unit = 10.0**-digits
    shown = 100 * part / whole
    shown = min(shown, 100 - unit) if part < whole else shown
    return f"{max(shown, unit) if part else 0:.{digits}f} %"


def match_text(matched: int, compared: int) -> str:
    """Tell a match ratio: "6,491 of 6,493 equal (99.9692 %)"."""
    return f"{matched:,} of {compared:,} equal ({share_text(matched, compared, 4)})"


def size_text(size: float) -> str:
    """Print a size in the unit that suits it, 1 kB being 1,000 bytes."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size:,} {_UNITS[0]}"
