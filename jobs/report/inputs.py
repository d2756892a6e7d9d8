"""The small tables of a warehouse that the commands `report` and `status` need, as published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.names import ALL_HOURS, Status
from deltabook.schemas.tables import COVERAGE, FIDELITY, GAPS, INSTRUMENTS, RUNS, VALIDATIONS, VERDICTS

STATUSES = (*(status.label for status in sorted(Status, reverse=True)), "silent")
"""Columns of `coverage` with durations: the statuses of a book, best first, and `silent`."""

Instrument = tuple[str, str]
"""Exchange and symbol."""


@dataclass
class ReportInputs:
    """The small tables of a warehouse, as published.

    Attributes
    ----------
    stored : TableReader
        Reader of further tables, at the same versions.
    runs : list of dict
        Rows of `runs`, oldest first.
    verdicts : list of dict
        Rows of `verdicts`, with `counts` as a dict.
    instruments : dict of (str, str) to dict
        Maps (exchange, symbol) to the row of `instruments`.
    fidelity : DataFrame
        All rows of `fidelity`, oldest run first.
    latest_fidelity : DataFrame
        The newest row of `fidelity` for each metric of each symbol-hour. Symbol-hours that no longer exist
        are left out.
    gaps : Table
        Rows of `gaps`, ordered by time.
    coverage : DataFrame
        Rows of `coverage`, ordered by instrument and time.
    validations : list of dict
        Rows of `validations`.
    """

    stored: TableReader
    runs: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    instruments: dict[Instrument, dict[str, Any]]
    fidelity: pd.DataFrame
    latest_fidelity: pd.DataFrame
    gaps: pa.Table
    coverage: pd.DataFrame
    validations: list[dict[str, Any]]


def read_report_inputs(warehouse: Path) -> ReportInputs:
    """Return the small tables of a warehouse.

    Parameters
    ----------
    warehouse : Path
        Folder of the Delta tables.

    Returns
    -------
    ReportInputs
        The tables as the newest run published them.

    Raises
    ------
    WarehouseError
        If the warehouse has no published tables yet.
    """
    stored = TableReader(warehouse.absolute(), require_published(warehouse))
    verdicts = [row | {"counts": dict(row["counts"])} for row in _read_rows(stored, VERDICTS)]
    runs = sorted(_read_rows(stored, RUNS), key=lambda run: (run["finished"], run["run_id"]))
    fidelity = _read_frame(stored, FIDELITY)
    order = {run["run_id"]: number for number, run in enumerate(runs)}
    fidelity = fidelity.iloc[np.argsort(fidelity["run_id"].map(order).fillna(-1), kind="stable")]
    keys = ["exchange", "symbol", "hour", "kind", "metric", "level"]
    latest = fidelity.drop_duplicates(keys, keep="last")
    known = {(row["exchange"], row["symbol"], row["hour"]) for row in verdicts}
    known |= {(*key[:2], ALL_HOURS) for key in known}
    rows = zip(latest["exchange"], latest["symbol"], latest["hour"], strict=True)
    return ReportInputs(
        stored,
        runs,
        verdicts,
        {(row["exchange"], row["symbol"]): row for row in _read_rows(stored, INSTRUMENTS)},
        fidelity,
        latest[np.array([row in known for row in rows], np.bool_)].sort_values(keys),
        _read_table(stored, GAPS).sort_by([("from_time", "ascending"), ("sequence", "ascending")]),
        _read_frame(stored, COVERAGE).sort_values(["exchange", "symbol", "hour"]),
        _read_rows(stored, VALIDATIONS),
    )


def _read_table(stored: TableReader, table: Table) -> pa.Table:
    return stored.dataset(table).to_table() if stored.exists(table) else table.arrow.empty_table()


def _read_rows(stored: TableReader, table: Table) -> list[dict[str, Any]]:
    return _read_table(stored, table).select(table.names).to_pylist()  # type: ignore[no-any-return]


def _read_frame(stored: TableReader, table: Table) -> pd.DataFrame:
    return _read_table(stored, table).select(table.names).to_pandas()  # type: ignore[no-any-return]
