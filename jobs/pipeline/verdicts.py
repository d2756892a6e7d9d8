"""Judging symbol-hours: each suite's counts from the workers, its verdicts into the tables.

A symbol-hour is judged when what its verdict was told of has changed, and not before.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd
from pyspark.sql import Row

from deltabook.expectations import suites
from deltabook.expectations.books import judge_books
from deltabook.expectations.events import judge_events
from deltabook.expectations.fidelity import judge_fidelity
from deltabook.expectations.raw import judge_raw
from deltabook.expectations.suites import ERRORED, FAILED, NONE, PASSED, Judgement
from deltabook.jobs.console.formats import hour_text
from deltabook.jobs.console.progress import Progress
from deltabook.jobs.tables.stored import KEYS, IdFile, Slice
from deltabook.jobs.warehouse.tasks import Work, bytes_read
from deltabook.jobs.warehouse.warehouse import Run, Warehouse
from deltabook.schemas.fingerprints import Fingerprint
from deltabook.schemas.frames import JUDGE_REFERENCES, JUDGED, TOTAL_REFERENCES
from deltabook.schemas.names import ALL_HOURS, NOT_GIVEN, EventType, GapKind
from deltabook.schemas.tables import (
    BOOKS,
    CHECKS,
    EVENTS,
    FIDELITY,
    GAPS,
    GOLDEN,
    HOURS,
    INSTRUMENTS,
    MISMATCHES,
    SAMPLES,
    VALIDATIONS,
    VERDICTS,
    both,
)
from deltabook.udfs.fidelity.golden_match import match_metric
from deltabook.udfs.spark.fidelity_groups import judge_groups
from deltabook.udfs.spark.fidelity_totals import total_group
from deltabook.udfs.spark.inspect_groups import NO_RESULT, inspect_books_group, inspect_events_group
from deltabook.udfs.storage.arrow_frames import Group

_SCALES = ("price_scale", "size_scale", "is_decimal")
_GAPS_OF_BOOKS = ("sequence_gap", "unbridgeable_snapshot", "missing_snapshot", "checksum_failure")
"""Kinds that are gaps of book updates. Ids order the feed, whatever its clock says; silence is told by
`coverage`; missing trades, unreadable parts and crossed rows have rules of their own."""


@dataclass
class _Hours:
    """What is known of every symbol-hour before it is judged."""

    references: dict[Slice, dict[str, Any]] = field(default_factory=dict)
    gaps: dict[Slice, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    checks: dict[Slice, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))


def judge_hours(
    warehouse: Warehouse, run: Run, names: Sequence[str], progress: Progress
) -> list[dict[str, Any]]:
    """Judge the symbol-hours that have changed, and write what was found.

    Parameters
    ----------
    warehouse : Warehouse
        Is being written by `run`.
    run : Run
        The run this belongs to.
    names : sequence of str
        The suites.
    progress : Progress
        Where to show what is done.

    Returns
    -------
    list of dict
        All rows of `verdicts`, as they stand now.
    """
    hours = _known(warehouse)
    stored = {
        (row["suite"], row["exchange"], row["symbol"], row["hour"]): row for row in warehouse.rows(VERDICTS)
    }
    instruments = {key[:2] for key in hours.references}
    verdicts = {
        key: row
        for key, row in stored.items()
        if key[1:] in hours.references or (key[3] == ALL_HOURS and key[1:3] in instruments)
    }
    for name in (name for name in suites.SUITES if name in names):
        prints = {key: _fingerprint(warehouse, name, key, hours) for key in hours.references}
        changed = [
            key
            for key, found in prints.items()
            if (name, *key) not in verdicts or not found.fits(verdicts[name, *key]["fingerprint"])
        ]
        if changed:
            with progress.stage("judging", "symbol-hours", len(changed), name) as show:
                judged = _SUITES[name](_Judging(warehouse, run, hours, changed, verdicts, show))
            for row in judged:
                key = _key(row)
                value = prints[key].value if key in prints else ""
                told = {"suite": name, "fingerprint": value, "run_id": run.run_id}
                verdicts[name, *key] = row | told
    rows = [verdicts[key] for key in sorted(verdicts)]
    if verdicts != stored:
        warehouse.overwrite(VERDICTS, rows)
    return [row | {"counts": dict(row["counts"])} for row in rows]


@dataclass(frozen=True)
class _Judging:
    """The symbol-hours that one suite is to judge."""

    warehouse: Warehouse
    run: Run
    hours: _Hours
    keys: list[Slice]
    verdicts: dict[tuple[str, str, str, int], dict[str, Any]]
    show: Callable[[int], None]

    def apply(self, function: Group) -> list[Row]:
        """Let workers count; return rows of `judged`."""
        references = [self.hours.references[key] for key in self.keys]
        costs = bytes_read(references, "event_files", "book_files")
        return self.warehouse.apply(
            Work(JUDGE_REFERENCES, references, KEYS, function, JUDGED, costs), self.show
        )

    def counts(self, rows: list[Row]) -> dict[Slice, dict[str, int]]:
        """Return what workers have counted, by symbol-hour."""
        return {
            (row.exchange, row.symbol, row.hour): dict(zip(row.counted, row.counts, strict=True))
            for row in rows
            if row.table == VERDICTS.name
        }

    def concluded(
        self,
        keys: list[Slice],
        counts: dict[Slice, dict[str, int]],
        judgements: list[Judgement],
        rows: int,
        suite: str,
    ) -> list[dict[str, Any]]:
        """Write the expectations' results; return the columns of `verdicts` that they tell of these keys."""
        self.warehouse.append(
            VALIDATIONS,
            [
                {
                    "run_id": self.run.run_id,
                    "suite": suite,
                    "expectation": judgement.expectation,
                    "verdict": judgement.verdict,
                    "observed": judgement.observed,
                    "rows": rows,
                }
                for judgement in judgements
            ],
        )
        errored = [judgement for judgement in judgements if judgement.verdict == ERRORED]
        found = []
        for key in keys:
            reasons = [f"{one.expectation}: {one.failed[key]}" for one in judgements if key in one.failed]
            reasons += [f"{one.expectation}: {one.observed}" for one in errored]
            verdict = ERRORED if errored else FAILED if reasons else PASSED
            found.append(
                dict(zip(KEYS, key, strict=True))
                | {"verdict": verdict, "reasons": "; ".join(reasons), "counts": counts[key]}
            )
        return found

    def frame(self, rows: dict[Slice, dict[str, Any]]) -> pd.DataFrame:
        """Return a summary for Great Expectations: the keys, the time, and what was counted."""
        return pd.DataFrame([named(key) | row for key, row in rows.items()])


def named(key: Slice) -> dict[str, Any]:
    """Return a symbol-hour's columns, with its time as ISO 8601, UTC.

    Parameters
    ----------
    key : tuple
        Exchange, symbol and hour.
    """
    return dict(zip(KEYS, key, strict=True)) | {"time": hour_text(key[2])}


def _raw(judging: _Judging) -> list[dict[str, Any]]:
    counts = judging.counts(judging.apply(inspect_events_group))
    frame = judging.frame({key: _shares(row) for key, row in counts.items()})
    settings = judging.warehouse.settings
    judgements = judge_raw(frame, settings.most_late, settings.most_untimed)
    return judging.concluded(judging.keys, counts, judgements, len(frame), suites.RAW)


def _shares(counts: dict[str, int]) -> dict[str, Any]:
    """Return what the suite `raw` judges: counts, and shares of the diffs or the trades, the greater."""
    shares = {"late": 0.0, "untimed": 0.0, "regressing": 0.0}
    for kind in EventType:
        of = {name: counts.get(f"{kind} {name}", 0) for name in ("diffs", "missing", "zero", *shares)}
        untimed = of["missing"] + of["zero"]
        of["untimed"] = untimed if untimed < of["diffs"] else 0
        shares = {name: max(share, of[name] / max(of["diffs"], 1)) for name, share in shares.items()}
    return {name: counts[name] for name in ("out_of_range", "damaged")} | shares


def _events(judging: _Judging) -> list[dict[str, Any]]:
    counts = {}
    for key in judging.keys:
        gaps, raw = judging.hours.gaps[key], dict(judging.verdicts[suites.RAW, *key]["counts"])
        counts[key] = {
            "gaps": sum(number for kind, number in gaps.items() if kind in _GAPS_OF_BOOKS),
            "trade_gaps": gaps[GapKind.TRADE_GAP.label],
            "unordered": sum(raw.get(f"{kind} unordered", 0) for kind in EventType),
            "out_of_time": raw["out_of_time"],
        }
    frame = judging.frame(counts)
    return judging.concluded(judging.keys, counts, judge_events(frame), len(frame), suites.EVENTS)


def _books(judging: _Judging) -> list[dict[str, Any]]:
    counts = judging.counts(judging.apply(inspect_books_group))
    for row in counts.values():
        row["worse"] = row["rows"] if row["unseeded"] == row["rows"] else row["suspect"]
    frame = judging.frame(counts)
    return judging.concluded(judging.keys, counts, judge_books(frame), len(frame), suites.BOOKS)


def _fidelity(judging: _Judging) -> list[dict[str, Any]]:
    warehouse, least = judging.warehouse, judging.warehouse.settings.minimum_match
    rows = judging.apply(judge_groups(str(warehouse.root), warehouse.settings.depth, least))
    counts = judging.counts(rows)
    for table in (*both(MISMATCHES), SAMPLES):
        warehouse.add(table, rows, judging.keys)
    totals = _together(judging)
    metrics = [row.asDict() for row in (*rows, *totals) if row.table == FIDELITY.name]
    for key in judging.keys:
        for row in judging.hours.checks[key]:
            counts[key] |= {f"{row['kind']} {name}": row[name] for name in ("compared", "matched")}
            told = match_metric("match", 0, row["compared"], row["matched"], least)
            told |= {"first_divergence": row["first_divergence"], "kind": row["kind"], "unverifiable": 0}
            metrics.append(NO_RESULT | dict(zip(KEYS, key, strict=True)) | told)
    for row in metrics:
        if row["hour"] != ALL_HOURS and row["verdict"] in (PASSED, FAILED) and row["matched"] == NOT_GIVEN:
            of_hour = counts[_key(row)]
            for name in ("tests", f"tests {row['verdict']}"):
                of_hour[name] = of_hour.get(name, 0) + 1
    run = {"run_id": judging.run.run_id}
    warehouse.append(FIDELITY, [{name: (run | row)[name] for name in FIDELITY.names} for row in metrics])
    told_of = [named(_key(row)) | row | {"of": _of(row)} for row in metrics if row["compared"]]
    found = pd.DataFrame(told_of, columns=[*FIDELITY.names, "time", "of"])
    matches = found[found["metric"] == "match"].rename(columns={"value": "ratio"})
    judgements = judge_fidelity(matches, found[found["p_value"].notna()], least)
    keys = [*judging.keys, *sorted({_key(row) for row in totals})]
    counts |= {key: {} for key in keys[len(judging.keys) :]}
    with_golden = {_key(row) for row in metrics if row["compared"]}
    return [
        row | {"verdict": NONE} if row["verdict"] == PASSED and _key(row) not in with_golden else row
        for row in judging.concluded(keys, counts, judgements, len(found), suites.FIDELITY)
    ]


def _together(judging: _Judging) -> list[Row]:
    """Compare all hours of each symbol, where there are several, with what is new."""
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, names in judging.warehouse.data_files(SAMPLES).items():
        files[key[:2]] += names
    references = [
        {"exchange": instrument[0], "symbol": instrument[1], "sample_files": files[instrument]}
        for instrument in sorted({key[:2] for key in judging.keys})
        if len(files[instrument]) > 1
    ]
    costs = bytes_read(references, "sample_files")
    return judging.warehouse.apply(Work(TOTAL_REFERENCES, references, KEYS[:2], total_group, JUDGED, costs))


_SUITES: dict[str, Callable[[_Judging], list[dict[str, Any]]]] = {
    suites.RAW: _raw,
    suites.EVENTS: _events,
    suites.BOOKS: _books,
    suites.FIDELITY: _fidelity,
}


def _of(metric: dict[str, Any]) -> str:
    if metric["metric"] == "match":
        first = metric["first_divergence"]
        return (
            f"{metric['kind']} (first divergence at {first})" if first != NOT_GIVEN else str(metric["kind"])
        )
    level = f" {metric['level']}" if metric["level"] else ""
    return f"{metric['kind']} {metric['metric']}{level}"


def _key(row: Row | dict[str, Any]) -> Slice:
    return row["exchange"], row["symbol"], row["hour"]


def _fingerprint(warehouse: Warehouse, suite: str, key: Slice, hours: _Hours) -> Fingerprint:
    """Name what a suite's verdict is told of; data files never change, so their names are enough."""
    settings, reference = warehouse.settings, hours.references[key]
    files = {
        suites.RAW: (("event_files",), (settings.most_late, settings.most_untimed)),
        suites.EVENTS: (("event_files",), sorted(hours.gaps[key].items())),
        suites.BOOKS: (("book_files",), ()),
        suites.FIDELITY: (
            ("event_files", "book_files", "files_before", "golden_files"),
            (settings.depth, settings.minimum_match, hours.checks[key]),
        ),
    }
    columns, limits = files[suite]
    names = {column: [file.rsplit("/", 1)[-1] for file in reference[column]] for column in columns}
    code = version("deltabook")
    first = [code, str(limits), *(f"{column}: {name}" for column, of in names.items() for name in of)]
    return Fingerprint.of(suite, {"code": code, "limits": limits, "files": names}, first)


def _known(warehouse: Warehouse) -> _Hours:
    """Read what is known of every symbol-hour that has book updates."""
    events, books = warehouse.files_of_both(EVENTS), warehouse.files_of_both(BOOKS)
    golden: dict[str, list[IdFile]] = defaultdict(list)
    for table in both(GOLDEN):
        for symbol, files in warehouse.files_by_symbol(table).items():
            golden[symbol] += files
    scales = {(row["exchange"], row["symbol"]): row for row in warehouse.rows(INSTRUMENTS)}
    ids = {_key(row): row for row in warehouse.rows(HOURS) if row["event_type"] == EventType.BOOK_UPDATE}
    hours = _Hours()
    for row in warehouse.rows(GAPS, *KEYS, "kind"):
        hours.gaps[_key(row)][row["kind"]] += 1
    for row in warehouse.rows(CHECKS):
        hours.checks[_key(row)].append(row)
    for instrument, keys in groupby(events, itemgetter(0, 1)):
        shown: list[str] = []  # of the last hour that has rows
        before: dict[str, Any] = {}
        for key in keys:
            of_hour = ids.get(key, before)
            hours.references[key] = (
                dict(zip(KEYS, key, strict=True))
                | {"event_files": events[key], "book_files": books.get(key, []), "files_before": shown}
                | {name: scales[instrument][name] for name in _SCALES}
                | _golden(golden[key[1]], of_hour, before)
            )
            shown = books.get(key) or shown
            before = of_hour
    return hours


def _golden(files: list[IdFile], hour: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Choose the files of golden rows that an hour may need: of one epoch, ids tell."""
    if not hour:
        return {"golden_files": [], "golden_from": 0}
    epoch, since, until = hour["first_epoch"], hour["first_sequence"], hour["last_sequence"]
    if before and before["first_epoch"] == epoch:
        since = before["first_sequence"]
    least, most = (since, until) if hour["last_epoch"] == epoch else (0, sys.maxsize)
    return {
        "golden_files": [file for file, low, high in files if low <= most and high >= least],
        "golden_from": since,
    }
