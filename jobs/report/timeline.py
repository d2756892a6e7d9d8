"""The timeline of coverage: for each instrument, the statuses of the book and the gaps on a time axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from deltabook.jobs.console.formats import format_duration, format_share, format_short_time, format_time
from deltabook.jobs.report.inputs import STATUSES, ReportInputs
from deltabook.jobs.report.time_grid import join_stretches
from deltabook.schemas.names import NOT_GIVEN

GAPS_SHOWN = 50
"""Maximum number of gaps in the list, and of gaps that are marked on the timeline of each instrument."""
BARS = 6_000
"""Approximate maximum number of bars. If there are more, neighbouring chunks share a bar."""
_WIDTH, _PAUSE, _LEAST_SHARE, _LEAST_BAR = 1000.0, 6.0, 0.03, 2.5
_CLOCK_KINDS = ("silence", "clock_jump")


def list_gaps(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the first `GAPS_SHOWN` gaps, with times as readable text.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    return [_show_gap(row) for row in inputs.gaps.slice(0, GAPS_SHOWN).to_pylist()]


def _show_gap(row: dict[str, Any]) -> dict[str, Any]:
    is_time = row["kind"] in _CLOCK_KINDS
    shown = {
        name: format_short_time(row[name]) if is_time else "–" if row[name] == NOT_GIVEN else str(row[name])
        for name in ("expected", "found")
    }
    shown |= {name: format_short_time(row[name]) for name in ("from_time", "resolved_time")}
    ended = f"ended {shown['resolved_time']} by {row['resolved_by']}" if row["resolved_by"] else "still open"
    location = f"{row['source_file']}:{row['source_row']}"
    text = (
        f"{row['kind']} at {shown['from_time']}: expected {shown['expected']}, found {shown['found']}; "
        f"{ended}; {row['updates_affected']:,} updates affected; {location}"
    )
    return row | shown | {"text": text, "location": location, "resolved_by": row["resolved_by"] or "open"}


def lay_out_timeline(inputs: ReportInputs) -> dict[str, Any]:
    """Return the positions of status bars and gap marks on one time axis.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.

    Returns
    -------
    dict
        `instruments`, each with bars and gap marks, whose positions are in thousandths of the axis; `ticks`
        (labels of the axis); and `merged` (number of neighbouring chunks that share a bar).
    """
    coverage: Any = inputs.coverage
    if coverage.empty:
        return {"instruments": [], "ticks": [], "merged": 1}
    ranges = zip(coverage["from_time"].tolist(), coverage["to_time"].tolist(), strict=True)
    axis = _Axis(*join_stretches(ranges))
    merged = -(-len(coverage) * 2 // BARS)
    gaps = inputs.gaps.select(["exchange", "symbol"]).to_pandas()
    gap_rows = gaps.groupby(["exchange", "symbol"]).indices
    rows = []
    for key, chunks in coverage.groupby(["exchange", "symbol"], sort=True):
        block_numbers = np.arange(len(chunks)) // merged
        sums = {"from_time": "min", "to_time": "max"} | dict.fromkeys(STATUSES, "sum")
        blocks = chunks.groupby(block_numbers).agg(sums).to_dict("records")
        bars = [bar for block in blocks for bar in _lay_out_bars(block, axis)]
        time = {name: int(chunks[name].sum()) for name in STATUSES}
        marked = inputs.gaps.take(pa.array(gap_rows.get(key, [])[:GAPS_SHOWN], pa.int64())).to_pylist()
        marks = [axis.span(row["from_time"], row["resolved_time"]) | _show_gap(row) for row in marked]
        shares = [(name, format_share(time[name], sum(time.values()))) for name in STATUSES if time[name]]
        rows.append(
            {"exchange": key[0], "symbol": key[1], "bars": bars, "marks": marks, "shares": shares}
            | {"hours": len(chunks), "gaps": len(gap_rows.get(key, []))}
        )
    return {"instruments": rows, "ticks": axis.ticks(), "merged": merged}


def _lay_out_bars(block: dict[str, int], axis: _Axis) -> list[dict[str, Any]]:
    """Return the bars of a block of chunks: one bar per status, side by side, as wide as the status's share.

    The order of the bars has no meaning, because `coverage` does not say when the book had each status.
    """
    span = axis.span(block["from_time"], block["to_time"])
    whole = sum(block[name] for name in STATUSES)
    present = [name for name in STATUSES if block[name]]
    widths = {name: max(span["width"] * block[name] / whole, _LEAST_BAR) for name in present}
    scale = span["width"] / sum(widths.values()) if widths else 1
    bars, x = [], span["x"]
    for name in present:
        width = widths[name] * scale
        text = f"{format_short_time(block['from_time'])} to {format_short_time(block['to_time'])}: {name} "
        text += f"{format_duration(block[name])} ({format_share(block[name], whole)})"
        bars.append({"x": round(x, 2), "width": round(width, 2), "status": name, "text": text})
        x += width
    return bars


class _Axis:
    """A time axis of 1,000 units, with pauses cut out."""

    def __init__(self, starts: Any, ends: Any):
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

    def span(self, start: int, end: int) -> dict[str, Any]:
        """Return the position and width of a period on the axis.

        A period that is still open (`end` is -1) reaches the end of the axis.
        """
        left, right = self.position(start), self.position(end) if end != NOT_GIVEN else _WIDTH
        width = max(right - left, _LEAST_BAR)
        return {
            "x": round(min(left, _WIDTH - width), 2),
            "width": round(width, 2),
            "is_open": end == NOT_GIVEN,
        }

    def ticks(self) -> list[dict[str, Any]]:
        """Return the labels of the axis: one at the start of each stretch, and more within long stretches."""
        ticks: list[dict[str, Any]] = []
        for start, end, left, width in zip(self.starts, self.ends, self.lefts, self.widths, strict=True):
            parts = max(int(width // 220), 1)
            for part in range(parts):
                x = left + width * part / parts
                if not ticks or x - ticks[-1]["x"] > 130:
                    text = format_time(int(start + (end - start) * part / parts))
                    is_new = not ticks or ticks[-1]["date"] != text[:10]
                    ticks.append({"x": x, "date": text[:10], "time": text[11:19], "is_new": is_new})
        return ticks
