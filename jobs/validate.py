"""The job `validate`: are the books unbroken, and do they equal the golden samples?"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd
from pyspark.sql import Row

from deltabook.expectations.continuity import SUITE as CONTINUITY
from deltabook.expectations.continuity import judge_continuity
from deltabook.expectations.fidelity import SUITE as FIDELITY_SUITE
from deltabook.expectations.fidelity import judge_fidelity
from deltabook.expectations.suites import ERRORED, FAILED, NONE, PASSED, Judgement
from deltabook.jobs.progress import Progress
from deltabook.jobs.stored import KEYS, IdFile
from deltabook.jobs.warehouse import Run, Warehouse
from deltabook.schemas.frames import JUDGE_REFERENCES, JUDGED
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, NOT_GIVEN, EventType, GapKind
from deltabook.schemas.tables import (
    BOOKS,
    CHECKS,
    EVENTS,
    FIDELITY,
    GAPS,
    GOLDEN,
    HOURS,
    RUNS,
    VALIDATIONS,
    both,
)
from deltabook.udfs.judging import OF_BOOKS, judge_groups

_OF_CONTINUITY = ("time", "gaps", "out_of_order", "crossed", "worse", "unverifiable")
_JUDGED = (*both(BOOKS), CHECKS, *both(EVENTS), GAPS, *both(GOLDEN))
_WORST_FIRST = (ERRORED, FAILED, NONE, PASSED)


def validate(warehouse: Warehouse, run: Run, progress: Progress) -> dict[str, Any]:
    """Judge all books.

    Parameters
    ----------
    warehouse : Warehouse
        Is being written by `run`.
    run : Run
        The run this belongs to.
    progress : Progress
        Where to show what is done.

    Returns
    -------
    dict
        Verdict of each suite, and the golden rows compared and matched by kind.
    """
    started = time.monotonic()
    if (told := _told_before(warehouse)) is not None:
        return told
    with progress.stage("validating", "suites", 2):
        counted = _judge(warehouse)
        continuity = continuity_summary(warehouse, counted)
        fidelity = fidelity_summary(warehouse, counted)
        unverifiable = int(continuity["unverifiable"].sum())
        judged = {
            CONTINUITY: (continuity, judge_continuity(continuity), unverifiable),
            FIDELITY_SUITE: (
                fidelity,
                judge_fidelity(fidelity, warehouse.settings.minimum_match),
                int(fidelity["unverifiable"].sum()),
            ),
        }
        measured = [{str(name): value for name, value in row.items()} for row in fidelity.to_dict("records")]
        warehouse.append(FIDELITY, [row | {"run_id": run.run_id} for row in measured])
        warehouse.append(
            VALIDATIONS,
            [
                {
                    "run_id": run.run_id,
                    "suite": suite,
                    "expectation": judgement.expectation,
                    "verdict": judgement.verdict,
                    "observed": judgement.observed,
                    "rows": len(summary),
                    "unverifiable": rows,
                }
                for suite, (summary, judgements, rows) in judged.items()
                for judgement in judgements
            ],
        )
    golden = fidelity.groupby("kind")[["compared", "matched"]].sum()
    return {
        "verdicts": {suite: _worst(judgements) for suite, (_, judgements, _) in judged.items()},
        "failures": [
            f"{suite}: {judgement.expectation}: {judgement.observed}"
            for suite, (_, judgements, _) in judged.items()
            for judgement in judgements
            if judgement.verdict in (FAILED, ERRORED)
        ],
        "golden_matches": {
            kind: {name: int(n) for name, n in row.items()} for kind, row in golden.iterrows()
        },
        "unverifiable_rows": unverifiable,
        "crossed": int(continuity["crossed"].sum()),
        "validate_seconds": round(time.monotonic() - started, 2),
    }


def _told_before(warehouse: Warehouse) -> dict[str, Any] | None:
    """Return what the last validation said if nothing that it looked at has changed since."""
    last = max(
        (row for row in warehouse.rows(RUNS) if row["command"] == "validate"),
        key=itemgetter("finished"),
        default=None,
    )
    if last is None or last["settings_hash"] != warehouse.settings.fingerprint:
        return None
    if last["code_version"] != version("deltabook"):
        return None
    judged, stands = dict(last["versions"]), warehouse.versions()
    if any(judged.get(table.name) != stands.get(table.name) for table in _JUDGED):
        return None
    return dict(json.loads(last["summary"]))


def continuity_summary(warehouse: Warehouse, judged: list[Row]) -> pd.DataFrame:
    """Return, for each symbol-hour, the counts that the suite `continuity` judges."""
    # Ids order the feed, whatever its clock says; silence is told by `coverage`; crossed rows are counted.
    no_gaps = (GapKind.CLOCK_JUMP.label, GapKind.SILENCE.label, GapKind.CROSSED_BOOK.label)
    rows = warehouse.rows(GAPS, *KEYS, "kind")
    gaps = Counter(tuple(row[name] for name in KEYS) for row in rows if row["kind"] not in no_gaps)
    books = {(row.exchange, row.symbol, row.hour): row for row in judged if row.kind == OF_BOOKS}
    found = []
    for key in sorted(gaps.keys() | books.keys()):
        counts = books[key].asDict() if key in books else dict.fromkeys(JUDGED.names, 0)
        worse = counts["rows"] if counts["unseeded"] == counts["rows"] else counts["suspect"]
        found.append(
            dict(zip(KEYS, key, strict=True))
            | {"time": _show_hour(key[2]), "gaps": gaps[key], "out_of_order": counts["late"], "worse": worse}
            | {name: counts[name] for name in ("crossed", "unverifiable")}
        )
    return pd.DataFrame(found, columns=[*KEYS, *_OF_CONTINUITY])


def fidelity_summary(warehouse: Warehouse, judged: list[Row]) -> pd.DataFrame:
    """Return, for each symbol-hour and kind of golden row, how many books were compared and equal.

    `book_ticker`: at each diff whose book is seeded, the best bid and ask with the last ticker whose
    id is not above the diff's last id. `vendor_book`: at each such row whose id is a diff's last id,
    all its levels down to the depth of `books`. Price and size, both sides, exactly. `checksum` and
    `snapshot`: as the rebuild has compared them, at full depth.
    """
    names = (*KEYS, "kind", "compared", "matched", "first_divergence", "unverifiable")
    rows = [row.asDict() for row in judged if row.kind != OF_BOOKS]
    rows += [row | {"unverifiable": 0} for row in warehouse.rows(CHECKS)]
    found = [
        {name: row[name] for name in names}
        | {"ratio": row["matched"] / row["compared"], "time": _show_hour(row["hour"])}
        for row in sorted(rows, key=itemgetter(*KEYS, "kind"))
    ]
    return pd.DataFrame(found, columns=[*names, "ratio", "time"])


def _judge(warehouse: Warehouse) -> list[Row]:
    """Count every symbol-hour, in workers; return rows of `judged`."""
    books, events = warehouse.files_of_both(BOOKS), warehouse.files_of_both(EVENTS)
    golden: dict[str, list[IdFile]] = defaultdict(list)
    for table in both(GOLDEN):
        for symbol, files in warehouse.files_by_symbol(table).items():
            golden[symbol] += files
    ids = {
        (row["exchange"], row["symbol"], row["hour"]): row
        for row in warehouse.rows(HOURS)
        if row["event_type"] == EventType.BOOK_UPDATE
    }
    references: list[dict[str, Any]] = []
    for _, keys in groupby(events, itemgetter(0, 1)):
        shown: list[str] = []  # of the last hour that has rows
        epoch_before, sequence_before = None, NOT_GIVEN
        for key in keys:
            of_hour = ids.get(key)
            if of_hour is None:
                continue
            epoch, sequence = of_hour["first_epoch"], of_hour["first_sequence"]
            since = sequence_before if epoch == epoch_before else sequence
            # Of one epoch, ids tell which golden rows an hour may need.
            until = of_hour["last_sequence"] if of_hour["last_epoch"] == epoch else sys.maxsize
            references.append(
                dict(zip(KEYS, key, strict=True))
                | {"event_files": events[key], "book_files": books.get(key, []), "files_before": shown}
                | {"golden_files": _within(golden[key[1]], since if until < sys.maxsize else 0, until)}
                | {"golden_from": since}
            )
            shown = books.get(key) or shown
            epoch_before, sequence_before = epoch, sequence
    judge = judge_groups(warehouse.settings.depth)
    return warehouse.apply(JUDGE_REFERENCES, references, KEYS, judge, JUDGED)


def _within(files: list[IdFile], since: int, until: int) -> list[str]:
    return [file for file, least, greatest in files if least <= until and greatest >= since]


def _show_hour(hour: int) -> str:
    """Print the start of an hour as ISO 8601, UTC."""
    return f"{datetime.fromtimestamp(hour // NANOSECONDS_PER_SECOND, UTC):%Y-%m-%dT%H:%M:%S}Z"


def _worst(judgements: list[Judgement]) -> str:
    return min((judgement.verdict for judgement in judgements), key=_WORST_FIRST.index)


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("validate")
