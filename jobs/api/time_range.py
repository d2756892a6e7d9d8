"""Convert times that a caller passes (integers in ns, ISO 8601 text or datetimes) to integers in ns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deltabook.jobs.console.formats import parse_time
from deltabook.schemas.errors import SettingsError

TimeLike = int | str | datetime
"""A time: ns since 1970 UTC, ISO 8601 text, or a datetime. A text or datetime without an offset is in UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_nanoseconds(time: TimeLike) -> int:
    """Return a time as ns since 1970 UTC.

    Parameters
    ----------
    time : int, str or datetime
        An int is ns since 1970 UTC. Text is ISO 8601, in UTC unless it has an offset. A datetime is in UTC
        unless it has a time zone. A pandas Timestamp is accepted too, and keeps its ns.

    Returns
    -------
    int
        ns since 1970 UTC.

    Raises
    ------
    SettingsError
        If the text is not a time, or if the value has another type.

    Examples
    --------
    >>> to_nanoseconds("2024-08-09T00:00:01Z")
    1723161601000000000
    >>> to_nanoseconds(datetime(2024, 8, 9, 0, 0, 1))
    1723161601000000000
    """
    if isinstance(time, str):
        return parse_time(time)
    if isinstance(time, datetime):
        moment = time if time.tzinfo else time.replace(tzinfo=UTC)
        microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
        return microseconds * 1000 + int(getattr(time, "nanosecond", 0))
    if isinstance(time, bool) or not hasattr(time, "__index__"):
        raise SettingsError(f"time {time!r}: expected ns since 1970 (int), ISO 8601 text or a datetime")
    return int(time)


def to_range(start: TimeLike | None, end: TimeLike | None) -> tuple[int | None, int | None]:
    """Return the start and the end of a range of times as ns since 1970 UTC.

    Parameters
    ----------
    start, end : int, str, datetime or None
        Start (inclusive) and end (exclusive) of the range, in forms that `to_nanoseconds` accepts; None: no
        limit.

    Returns
    -------
    (int or None, int or None)
        Start and end, ns since 1970 UTC; None: no limit.

    Raises
    ------
    SettingsError
        If `start` or `end` is not a time, or the end is before the start.

    Examples
    --------
    >>> to_range("1970-01-01T00:00:01Z", None)
    (1000000000, None)
    """
    first, last = (None if time is None else to_nanoseconds(time) for time in (start, end))
    if first is not None and last is not None and last < first:
        raise SettingsError(f"end {end!r} is before start {start!r}: pass a later end or an earlier start")
    return first, last
