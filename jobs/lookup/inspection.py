"""The command `inspect`: show what raw files are and what would be read from them. Nothing is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.jobs.console.formats import format_time
from deltabook.jobs.intake.assignment import explain_nothing_taken
from deltabook.jobs.intake.ledger import find_files
from deltabook.schemas.feeds import AUTO, feed_of
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.file_source import TAKEN, LineCounts
from deltabook.udfs.sources.recognition import Recognition, recognize_file
from deltabook.udfs.sources.registry import SOURCES

_MOST_REASONS = 5


@dataclass
class InstrumentCounts:
    """What one file has of one instrument.

    Attributes
    ----------
    messages, snapshots, level_changes, trades, golden : int
        Number of book messages, of the snapshots among them, of level changes, of trades and of golden rows.
    first_time, last_time : int
        Earliest and latest time, ns since 1970 UTC; -1 if no time is given.
    """

    messages: int = 0
    snapshots: int = 0
    level_changes: int = 0
    trades: int = 0
    golden: int = 0
    first_time: int = NOT_GIVEN
    last_time: int = NOT_GIVEN

    def add(self, records: pa.Table) -> None:
        """Count the records of one kind of the instrument."""
        kind = records["record"][0].as_py()
        if kind == "book_update":
            self.messages += records.num_rows
            self.snapshots += pc.sum(records["is_snapshot"]).as_py() or 0
            self.level_changes += pc.sum(records["level_changes"]).as_py() or 0
        elif kind == "golden":
            self.golden += records.num_rows
        else:
            self.trades += records.num_rows
        times = pc.if_else(pc.greater(records["timestamp"], 0), records["timestamp"], records["received"])
        given = times.filter(pc.greater(times, 0))
        if len(given):
            least, most = pc.min(given).as_py(), pc.max(given).as_py()
            self.first_time = least if self.first_time < 0 else min(self.first_time, least)
            self.last_time = max(self.last_time, most)


@dataclass
class Inspection:
    """What one raw file is, and what would be read from it.

    Attributes
    ----------
    path : str
        The file.
    found : Recognition
        Container, envelope and source.
    problem : str
        Why the file would be refused; empty if it would be read or passed over.
    lines : LineCounts
        Number of lines by kind.
    instruments : dict
        {(exchange, symbol): counts}.
    reasons : Counter
        {reason of quarantine: number of lines}.
    """

    path: str
    found: Recognition
    problem: str = ""
    lines: LineCounts = field(default_factory=Counter)
    instruments: dict[tuple[str, str], InstrumentCounts] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, object]:
        """Return the values as JSON values."""
        return {
            "path": self.path,
            "source": self.found.source,
            "container": self.found.container,
            "envelope": self.found.envelope,
            "is_document": self.found.is_document,
            "problem": self.problem,
            "lines": dict(self.lines),
            "quarantined": dict(self.reasons),
            "instruments": [
                {"exchange": exchange, "symbol": symbol, **asdict(counts)}
                for (exchange, symbol), counts in sorted(self.instruments.items())
            ],
        }


def inspect_files(paths: Sequence[Path], source: str = AUTO) -> Iterator[Inspection]:
    """Inspect raw files.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    source : str
        Name of the source that reads all files, or `AUTO`.

    Yields
    ------
    Inspection
        What each file is.

    Raises
    ------
    SettingsError
        If a path does not exist, or the paths contain no file.
    """
    for path in find_files(paths):
        yield _inspect(str(path), source)


def _inspect(path: str, source: str) -> Inspection:
    """Read one file with its source, and count what it has."""
    inspection = Inspection(path, recognize_file(path))
    name = inspection.found.source if source == AUTO else source
    if not name:
        inspection.problem = "" if inspection.found.is_document else inspection.found.reason
        return inspection
    reader = SOURCES[name]({"path": path}).reader(None)
    for part in reader.partitions():
        for batch in reader.read(part):
            _count(inspection, pa.Table.from_batches([batch]))
    if not inspection.instruments and not inspection.problem:
        inspection.problem = explain_nothing_taken(path, name, inspection.lines)
    return inspection


def _count(inspection: Inspection, records: pa.Table) -> None:
    """Count the records of one batch."""
    last = records.slice(records.num_rows - 1)
    if last["record"][0].as_py() == "file":
        reason = last["reason"][0].as_py()
        if last["kind"][0].as_py() == "failed":
            inspection.problem = reason
        else:
            inspection.lines.update(json.loads(reason))
        return
    quarantined = records.filter(pc.equal(records["record"], "quarantine"))
    inspection.reasons.update(quarantined["reason"].to_pylist())
    records = records.filter(pc.not_equal(records["record"], "quarantine"))
    keys = records.group_by(["record", "exchange", "symbol"]).aggregate([]).to_pylist()
    for key in keys:
        chosen = records
        for name, value in key.items():
            chosen = chosen.filter(pc.equal(chosen[name], value))
        instrument = key["exchange"], key["symbol"]
        inspection.instruments.setdefault(instrument, InstrumentCounts()).add(chosen)


def describe_inspection(inspection: Inspection) -> str:
    """Return the text that shows what one file is and has.

    Parameters
    ----------
    inspection : Inspection
        The result of `inspect_files`.
    """
    found, lines = inspection.found, inspection.lines
    if found.is_document:
        return f"{inspection.path}\n  passed over: no data"
    if found.is_empty:
        return f"{inspection.path}\n  empty"
    wrapping = ", ".join(filter(None, (found.container or "plain", found.envelope)))
    text = [inspection.path, f"  {found.source or 'unknown'}: {wrapping}"]
    for (exchange, symbol), counts in sorted(inspection.instruments.items()):
        text.append(f"  {exchange} {symbol}: {_describe_counts(counts)}")
    for exchange in sorted({exchange for exchange, _ in inspection.instruments}):
        feed = feed_of(found.source, exchange)
        text.append(f"  books of {exchange}: {feed.best_status.label} at best")
    if lines:
        others = ", ".join(f"{count:,} {kind}" for kind, count in lines.most_common() if kind != TAKEN)
        text.append(f"  {lines.total():,} lines: {lines[TAKEN]:,} taken{', ' if others else ''}{others}")
    for reason, count in inspection.reasons.most_common(_MOST_REASONS):
        text.append(f"  quarantined {count:,}: {reason}")
    if inspection.problem:
        text.append(f"  would be refused: {inspection.problem}")
    return "\n".join(text)


def _describe_counts(counts: InstrumentCounts) -> str:
    span = ""
    if counts.first_time > 0:
        span = f"; {format_time(counts.first_time)} to {format_time(counts.last_time)}"
    return (
        f"{counts.messages:,} book messages ({counts.snapshots:,} snapshots, {counts.level_changes:,} level "
        f"changes), {counts.trades:,} trades, {counts.golden:,} golden rows{span}"
    )
