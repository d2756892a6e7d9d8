"""Lay out the timeline of the report, which shows the book statuses and the gaps of each instrument."""

from __future__ import annotations

from typing import TypedDict, cast

import numpy as np
import pyarrow as pa

from deltabook.jobs.console.formats import format_duration, format_share, format_short_time, format_time
from deltabook.jobs.report.inputs import STATUSES, ReportInputs
from deltabook.jobs.report.time_grid import Integers, join_stretches
from deltabook.schemas.names import NOT_GIVEN

GAPS_SHOWN = 50
"""Maximum number of gaps that are listed, and maximum number of marks on the timeline of each instrument."""
BARS = 6_000
"""Approximate maximum number of bars. If there are more, neighbouring chunks share a bar."""
_WIDTH, _PAUSE, _LEAST_SHARE, _LEAST_BAR = 1000.0, 6.0, 0.03, 2.5
"""`_WIDTH`, `_PAUSE` and `_LEAST_BAR`: width of the axis, of a pause, and of the narrowest bar.

The unit of these widths is a thousandth of the axis. `_LEAST_SHARE` is the smallest weight of a stretch of
time, as a share of the time of all stretches.
"""
_CLOCK_KINDS = ("silence", "clock_jump")
"""Kinds of gaps whose `expected` and `found` are times."""


class GapRow(TypedDict):
    """The columns of a row of `gaps` that the report shows."""

    exchange: str
    symbol: str
    kind: str
    expected: int
    found: int
    from_time: int
    resolved_time: int
    resolved_by: str
    updates_affected: int
    source_file: str
    source_row: int


class ShownGap(TypedDict):
    """A gap as texts. `location` is file and line, and `text` describes the gap in one line."""

    exchange: str
    symbol: str
    kind: str
    expected: str
    found: str
    from_time: str
    resolved_time: str
    resolved_by: str
    updates_affected: int
    location: str
    text: str


class Span(TypedDict):
    """Position and width of a period in thousandths of the axis, and whether the period is still open."""

    x: float
    width: float
    is_open: bool


class GapMark(Span):
    """Mark of a gap on the axis, with its description."""

    text: str


class Bar(TypedDict):
    """Bar of one status: position and width in thousandths of the axis, and a description."""

    x: float
    width: float
    status: str
    text: str


class Tick(TypedDict):
    """Label of the axis. `is_new` says whether its date differs from the date of the previous label."""

    x: float
    date: str
    time: str
    is_new: bool


class TimelineRow(TypedDict):
    """One instrument on the timeline.

    `shares` lists each status with its share of time as text. `hours` and `gaps` are the numbers of the
    instrument's chunks and gaps.
    """

    exchange: str
    symbol: str
    bars: list[Bar]
    marks: list[GapMark]
    shares: list[tuple[str, str]]
    hours: int
    gaps: int


class Timeline(TypedDict):
    """Rows and labels of the timeline. `merged` is the number of neighbouring chunks that share a bar."""

    instruments: list[TimelineRow]
    ticks: list[Tick]
    merged: int


def list_gaps(inputs: ReportInputs) -> list[ShownGap]:
    """Return the first gaps as texts; `GAPS_SHOWN` is their maximum number.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    return [_show_gap(row) for row in inputs.gaps.slice(0, GAPS_SHOWN).to_pylist()]


def _show_gap(row: GapRow) -> ShownGap:
    """Return a row of `gaps` as texts."""
    expected, found = (
        format_short_time(value) if row["kind"] in _CLOCK_KINDS else "–" if value == NOT_GIVEN else str(value)
        for value in (row["expected"], row["found"])
    )
    from_time, resolved_time = format_short_time(row["from_time"]), format_short_time(row["resolved_time"])
    ended = f"ended {resolved_time} by {row['resolved_by']}" if row["resolved_by"] else "still open"
    location = f"{row['source_file']}:{row['source_row']}"
    return {
        "exchange": row["exchange"],
        "symbol": row["symbol"],
        "kind": row["kind"],
        "expected": expected,
        "found": found,
        "from_time": from_time,
        "resolved_time": resolved_time,
        "resolved_by": row["resolved_by"] or "open",
        "updates_affected": row["updates_affected"],
        "location": location,
        "text": f"{row['kind']} at {from_time}: expected {expected}, found {found}; {ended}; "
        f"{row['updates_affected']:,} updates affected; {location}",
    }


def lay_out_timeline(inputs: ReportInputs) -> Timeline:
    """Return the bars of statuses and the marks of gaps of all instruments, on one time axis.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    coverage = inputs.coverage
    if coverage.empty:
        return {"instruments": [], "ticks": [], "merged": 1}
    ranges = zip(coverage["from_time"].tolist(), coverage["to_time"].tolist(), strict=True)
    axis = _Axis(*join_stretches(ranges))
    merged = -(-len(coverage) * 2 // BARS)
    gaps = inputs.gaps.select(["exchange", "symbol"]).to_pandas()
    gap_rows = gaps.groupby(["exchange", "symbol"]).indices
    rows: list[TimelineRow] = []
    for key, chunks in coverage.groupby(["exchange", "symbol"], sort=True):
        block_numbers = np.arange(len(chunks)) // merged
        sums = {"from_time": "min", "to_time": "max"} | dict.fromkeys(STATUSES, "sum")
        blocks = chunks.groupby(block_numbers).agg(sums).to_dict("records")
        bars = [bar for block in cast(list[dict[str, int]], blocks) for bar in _lay_out_bars(block, axis)]
        time = {name: int(chunks[name].sum()) for name in STATUSES}
        first_gaps = pa.array(gap_rows.get(key, [])[:GAPS_SHOWN], pa.int64())
        marked: list[GapRow] = inputs.gaps.take(first_gaps).to_pylist()
        marks: list[GapMark] = [
            {**axis.span(row["from_time"], row["resolved_time"]), "text": _show_gap(row)["text"]}
            for row in marked
        ]
        shares = [(name, format_share(time[name], sum(time.values()))) for name in STATUSES if time[name]]
        rows.append(
            {
                "exchange": str(key[0]),
                "symbol": str(key[1]),
                "bars": bars,
                "marks": marks,
                "shares": shares,
                "hours": len(chunks),
                "gaps": len(gap_rows.get(key, [])),
            }
        )
    return {"instruments": rows, "ticks": axis.ticks(), "merged": merged}


def _lay_out_bars(block: dict[str, int], axis: _Axis) -> list[Bar]:
    """Return one bar for each status in a block of chunks, side by side, as wide as its share of time.

    The order of the bars has no meaning, because `coverage` does not say when the book had each status.
    """
    span = axis.span(block["from_time"], block["to_time"])
    whole = sum(block[name] for name in STATUSES)
    present = [name for name in STATUSES if block[name]]
    widths = {name: max(span["width"] * block[name] / whole, _LEAST_BAR) for name in present}
    scale = span["width"] / sum(widths.values()) if widths else 1
    bars: list[Bar] = []
    x = span["x"]
    for name in present:
        width = widths[name] * scale
        text = f"{format_short_time(block['from_time'])} to {format_short_time(block['to_time'])}: {name} "
        text += f"{format_duration(block[name])} ({format_share(block[name], whole)})"
        bars.append({"x": round(x, 2), "width": round(width, 2), "status": name, "text": text})
        x += width
    return bars


class _Axis:
    """A time axis of 1,000 units, with pauses cut out."""

    def __init__(self, starts: Integers, ends: Integers):
        self.starts, self.ends = starts, ends
        lengths = np.maximum(ends - starts, 1).astype(float)
        weights = np.maximum(lengths, _LEAST_SHARE * lengths.sum())
        self.widths = weights / weights.sum() * (_WIDTH - _PAUSE * (len(starts) - 1))
        self.lefts = np.cumsum(self.widths + _PAUSE) - self.widths - _PAUSE

    def position(self, time: int) -> float:
        """Return the position of a time on the axis, from 0 to 1,000."""
        stretch = max(int(np.searchsorted(self.starts, time, "right")) - 1, 0)
        along = (time - self.starts[stretch]) / max(self.ends[stretch] - self.starts[stretch], 1)
        return float(self.lefts[stretch] + np.clip(along, 0, 1) * self.widths[stretch])

    def span(self, start: int, end: int) -> Span:
        """Return the position and width of a period on the axis.

        If `end` is -1, the period is still open, and reaches the end of the axis.
        """
        left, right = self.position(start), self.position(end) if end != NOT_GIVEN else _WIDTH
        width = max(right - left, _LEAST_BAR)
        return {
            "x": round(min(left, _WIDTH - width), 2),
            "width": round(width, 2),
            "is_open": end == NOT_GIVEN,
        }

    def ticks(self) -> list[Tick]:
        """Return the labels of the axis: one at the start of each stretch, and more within long stretches."""
        ticks: list[Tick] = []
        for start, end, left, width in zip(self.starts, self.ends, self.lefts, self.widths, strict=True):
            parts = max(int(width // 220), 1)
            for part in range(parts):
                x = left + width * part / parts
                if not ticks or x - ticks[-1]["x"] > 130:
                    text = format_time(int(start + (end - start) * part / parts))
                    is_new = not ticks or ticks[-1]["date"] != text[:10]
                    ticks.append({"x": x, "date": text[:10], "time": text[11:19], "is_new": is_new})
        return ticks
