"""Verdicts of the suites on chunks: run the suites where inputs have changed, and store the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from deltabook.expectations.suites import BOOKS, EVENTS, FIDELITY, RAW, SUITES
from deltabook.jobs.console.progress import Progress
from deltabook.jobs.pipeline.fidelity_suite import judge_fidelity_suite
from deltabook.jobs.pipeline.suite_runs import (
    SuiteRun,
    SuiteVerdict,
    judge_books_suite,
    judge_events_suite,
    judge_raw_suite,
)
from deltabook.jobs.pipeline.verdict_inputs import VerdictInputs
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.run import Run
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.rows import VerdictRow
from deltabook.schemas.validation_tables import VERDICTS

VerdictKey = tuple[str, str, str, int]
"""Suite, exchange, symbol and start of the chunk in ns (ALL_HOURS: all chunks of the symbol together)."""

_JUDGES: dict[str, Callable[[SuiteRun], list[SuiteVerdict]]] = {
    RAW: judge_raw_suite,
    EVENTS: judge_events_suite,
    BOOKS: judge_books_suite,
    FIDELITY: judge_fidelity_suite,
}


def judge_chunks(
    warehouse: Warehouse, run: Run, names: Sequence[str], progress: Progress
) -> list[VerdictRow]:
    """Run suites on the chunks whose inputs have changed, store the verdicts, and return all verdicts.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse that `run` writes.
    run : Run
        The present run. Its id is stored with the new verdicts.
    names : sequence of str
        Names of the suites to run.
    progress : Progress
        The display that shows how many chunks are done.

    Returns
    -------
    list of VerdictRow
        The rows of `verdicts` for all suites and all chunks that have events.
    """
    inputs = VerdictInputs.read(warehouse)
    stored = _read_verdicts(warehouse)
    instruments = {key[:2] for key in inputs.references}
    verdicts = {
        (suite, exchange, symbol, chunk): row
        for (suite, exchange, symbol, chunk), row in stored.items()
        if (exchange, symbol, chunk) in inputs.references
        or (chunk == ALL_HOURS and (exchange, symbol) in instruments)
    }
    for suite in (suite for suite in SUITES if suite in names):
        fingerprints = {
            key: inputs.make_fingerprint(suite, key, warehouse.settings) for key in inputs.references
        }
        changed = [
            key
            for key, fingerprint in fingerprints.items()
            if (suite, *key) not in verdicts or verdicts[suite, *key]["fingerprint"] != fingerprint
        ]
        if not changed:
            continue
        with progress.stage("judging", "chunks", len(changed), suite) as show:
            judged = _JUDGES[suite](SuiteRun(warehouse, run, inputs, changed, verdicts, show))
        for verdict in judged:
            exchange, symbol, chunk = verdict.key
            verdicts[suite, exchange, symbol, chunk] = {
                "exchange": exchange,
                "symbol": symbol,
                "hour": chunk,
                "suite": suite,
                "verdict": verdict.verdict,
                "reasons": verdict.reasons,
                "hides": verdict.hides,
                "counts": verdict.counts,
                "fingerprint": fingerprints.get(verdict.key, ""),
                "run_id": run.run_id,
            }
    rows = [verdicts[key] for key in sorted(verdicts)]
    if verdicts != stored:
        warehouse.overwrite(VERDICTS, rows)
    return rows


def _read_verdicts(tables: TableReader) -> dict[VerdictKey, VerdictRow]:
    """Return the stored rows of `verdicts` by suite, exchange, symbol and chunk."""
    rows = [row | {"counts": dict(row["counts"])} for row in tables.rows(VERDICTS)]
    return {
        (row["suite"], row["exchange"], row["symbol"], row["hour"]): row
        for row in cast(list[VerdictRow], rows)
    }
