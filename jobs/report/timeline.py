"""The report's timeline: what each book was, hour by hour, and its gaps, on one axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from deltabook.jobs.console.formats import length_text, share_text, show_time, time_text
from deltabook.jobs.report.books import join_stretches
from deltabook.jobs.report.facts import STATUSES, Facts
from deltabook.schemas.names import NOT_GIVEN

GAPS_SHOWN = 50
"""Gaps that are listed; of each instrument as many are marked in the timeline."""
BARS = 6_000
"""Bars at most, about: neighbouring hours are drawn as one where there are more."""
_WIDTH, _PAUSE, _LEAST_SHARE, _LEAST_BAR = 1000.0, 6.0, 0.03, 2.5
_CLOCK_KINDS = ("silence", "clock_jump")


def gap_rows(facts: Facts) -> list[dict[str, Any]]:
    """List the first gaps for people.

    Parameters
    ----------
    facts : Facts
        What was published.
    """
    return [_gap(row) for row in facts.gaps.slice(0, GAPS_SHOWN).to_pylist()]


def _gap(row: dict[str, Any]) -> dict[str, Any]:
    is_time = row["kind"] in _CLOCK_KINDS
    told = {
        name: time_text(row[name]) if is_time else "–" if row[name] == NOT_GIVEN else str(row[name])
        for name in ("expected", "found")
    }
    told |= {name: time_text(row[name]) for name in ("from_time", "resolved_time")}
    ended = f"ended {told['resolved_time']} by {row['resolved_by']}" if row["resolved_by"] else "still open"
    place = f"{row['source_file']}:{row['source_row']}"
    text = (
        f"{row['kind']} at {told['from_time']}: expected {told['expected']}, found {told['found']}; {ended}; "
        f"{row['updates_affected']:,} updates affected; {place}"
    )
    return row | told | {"text": text, "place": place, "resolved_by": row["resolved_by"] or "open"}


def timeline(facts: Facts) -> dict[str, Any]:
    """Lay out bars of what each book was, and marks of its gaps, on one axis of time.

    Parameters
    ----------
    facts : Facts
        What was published.

    Returns
    -------
    dict
        `instruments`, each with bars and marks in thousandths of the axis; `ticks`; `merged`: hours a bar.
    """
    coverage: Any = facts.coverage
    if coverage.empty:
        return {"instruments": [], "ticks": [], "merged": 1}
    ranges = zip(coverage["from_time"].tolist(), coverage["to_time"].tolist(), strict=True)
    axis = _Axis(*join_stretches(ranges))
    merged = -(-len(coverage) * 2 // BARS)
    gaps = facts.gaps.select(["exchange", "symbol"]).to_pandas()
    places = gaps.groupby(["exchange", "symbol"]).indices
    rows = []
    for key, hours in coverage.groupby(["exchange", "symbol"], sort=True):
        of_block = np.arange(len(hours)) // merged
        sums = {"from_time": "min", "to_time": "max"} | dict.fromkeys(STATUSES, "sum")
        blocks = hours.groupby(of_block).agg(sums).to_dict("records")
        bars = [bar for block in blocks for bar in _bars(block, axis)]
        time = {name: int(hours[name].sum()) for name in STATUSES}
        marked = facts.gaps.take(pa.array(places.get(key, [])[:GAPS_SHOWN], pa.int64())).to_pylist()
        marks = [axis.span(row["from_time"], row["resolved_time"]) | _gap(row) for row in marked]
        shares = [(name, share_text(time[name], sum(time.values()))) for name in STATUSES if time[name]]
        rows.append(
            {"exchange": key[0], "symbol": key[1], "bars": bars, "marks": marks, "shares": shares}
            | {"hours": len(hours), "gaps": len(places.get(key, []))}
        )
    return {"instruments": rows, "ticks": axis.ticks(), "merged": merged}


def _bars(block: dict[str, int], axis: _Axis) -> list[dict[str, Any]]:
    """Draw a block's shares side by side: `coverage` does not say when, within an hour, each was."""
    span = axis.span(block["from_time"], block["to_time"])
    whole = sum(block[name] for name in STATUSES)
    present = [name for name in STATUSES if block[name]]
    widths = {name: max(span["width"] * block[name] / whole, _LEAST_BAR) for name in present}
    scale = span["width"] / sum(widths.values()) if widths else 1
    bars, x = [], span["x"]
    for name in present:
        width = widths[name] * scale
        told = f"{time_text(block['from_time'])} to {time_text(block['to_time'])}: {name} "
        told += f"{length_text(block[name])} ({share_text(block[name], whole)})"
        bars.append({"x": round(x, 2), "width": round(width, 2), "status": name, "text": told})
        x += width
    return bars


class _Axis:
    """Time along a line of 1,000 units, with pauses cut out."""

    def __init__(self, starts: Any, ends: Any):
        self.starts, self.ends = starts, ends
        lengths = np.maximum(ends - starts, 1).astype(float)
        weights = np.maximum(lengths, _LEAST_SHARE * lengths.sum())
        self.widths = weights / weights.sum() * (_WIDTH - _PAUSE * (len(starts) - 1))
        self.lefts = np.cumsum(self.widths + _PAUSE) - self.widths - _PAUSE

    def place(self, time: int) -> float:
        at = max(int(np.searchsorted(self.starts, time, "right")) - 1, 0)
        along = (time - self.starts[at]) / max(self.ends[at] - self.starts[at], 1)
        return float(self.lefts[at] + np.clip(along, 0, 1) * self.widths[at])

    def span(self, start: int, end: int) -> dict[str, Any]:
        """Return where a stretch lies; one that is still open reaches the end."""
        left, right = self.place(start), self.place(end) if end != NOT_GIVEN else _WIDTH
        width = max(right - left, _LEAST_BAR)
        return {
            "x": round(min(left, _WIDTH - width), 2),
            "width": round(width, 2),
            "is_open": end == NOT_GIVEN,
        }

    def ticks(self) -> list[dict[str, Any]]:
        """Return labels: of each stretch its start, and of a long one times within it."""
        found: list[dict[str, Any]] = []
        for start, end, left, width in zip(self.starts, self.ends, self.lefts, self.widths, strict=True):
            parts = max(int(width // 220), 1)
            for part in range(parts):
                place = left + width * part / parts
                if not found or place - found[-1]["x"] > 130:
                    text = show_time(int(start + (end - start) * part / parts))
                    is_new = not found or found[-1]["date"] != text[:10]
                    found.append({"x": place, "date": text[:10], "time": text[11:19], "is_new": is_new})
        return found
