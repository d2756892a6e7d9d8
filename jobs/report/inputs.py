"""Read the published versions of the small tables that the commands `report` and `status` show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.names import ALL_HOURS, Status
from deltabook.schemas.rows import InstrumentRow, RunRow, VerdictRow
from deltabook.schemas.tables import COVERAGE, GAPS, INSTRUMENTS, RUNS
from deltabook.schemas.validation_tables import FIDELITY, VALIDATIONS, VERDICTS

STATUSES = (*(status.label for status in sorted(Status, reverse=True)), "silent")
"""Columns of `coverage` that hold a duration: the statuses of a book, best first, and `silent`."""

Instrument = tuple[str, str]
"""Exchange and symbol."""


class FidelityRow(TypedDict):
    """Row of the table `fidelity`."""

    # pylint: disable=duplicate-code  # the tuple in `schemas.rows` cannot inherit these fields
    run_id: str
    exchange: str
    symbol: str
    hour: int
    kind: str
    metric: str
    level: int
    compared: int
    matched: int
    value: float
    golden_value: float
    statistic: float
    p_value: float
    adjusted_p: float
    distance: float
    low: float
    high: float
    verdict: str
    unverifiable: int
    first_divergence: int


class ValidationRow(TypedDict):
    """Row of the table `validations`."""

    run_id: str
    suite: str
    expectation: str
    verdict: str
    observed: str
    rows: int


class RunSummary(TypedDict, total=False):
    """Keys of the JSON in the column `summary` of `runs` that the report and the status show."""

    events: int
    files_new: int
    refused: list[object]
    verdicts: dict[str, str]
    symbol_hours_failed: int


@dataclass
class ReportInputs:
    """The small tables of a warehouse at their published versions.

    Attributes
    ----------
    stored : TableReader
        Reader of all other tables, at their published versions.
    runs : list of RunRow
        Rows of `runs`, oldest first.
    verdicts : list of VerdictRow
        Rows of `verdicts`.
    instruments : dict of (str, str) to InstrumentRow
        Rows of `instruments` by exchange and symbol.
    fidelity : DataFrame
        All rows of `fidelity`, oldest run first.
    latest_fidelity : DataFrame
        The newest row of `fidelity` for each metric of each symbol-hour that still has a verdict.
    gaps : Table
        Rows of `gaps`, ordered by time.
    coverage : DataFrame
        Rows of `coverage`, ordered by instrument and time.
    validations : list of ValidationRow
        Rows of `validations`.
    """

    stored: TableReader
    runs: list[RunRow]
    verdicts: list[VerdictRow]
    instruments: dict[Instrument, InstrumentRow]
    fidelity: pd.DataFrame
    latest_fidelity: pd.DataFrame
    gaps: pa.Table
    coverage: pd.DataFrame
    validations: list[ValidationRow]


def read_report_inputs(warehouse: Path) -> ReportInputs:
    """Read the small tables of a warehouse, as its newest run published them.

    Parameters
    ----------
    warehouse : Path
        Folder of the Delta tables.

    Raises
    ------
    WarehouseError
        If the warehouse has no published tables yet.
    """
    stored = TableReader(warehouse.absolute(), require_published(warehouse))
    verdicts: list[VerdictRow] = _read_columns(stored, VERDICTS).to_pylist()
    for row in verdicts:
        row["counts"] = dict(row["counts"])  # Arrow returns a map as a list of pairs
    runs: list[RunRow] = _read_columns(stored, RUNS).to_pylist()
    for run in runs:
        run["versions"] = dict(run["versions"])
    runs.sort(key=lambda run: (run["finished"], run["run_id"]))
    instruments: list[InstrumentRow] = _read_columns(stored, INSTRUMENTS).to_pylist()
    fidelity = _read_frame(stored, FIDELITY)
    order = {run["run_id"]: number for number, run in enumerate(runs)}
    fidelity = fidelity.iloc[np.argsort(fidelity["run_id"].map(order).fillna(-1), kind="stable")]
    keys = ["exchange", "symbol", "hour", "kind", "metric", "level"]
    latest = fidelity.drop_duplicates(keys, keep="last")
    known = {(row["exchange"], row["symbol"], row["hour"]) for row in verdicts}
    known |= {(*key[:2], ALL_HOURS) for key in known}
    latest_keys = zip(latest["exchange"], latest["symbol"], latest["hour"], strict=True)
    return ReportInputs(
        stored,
        runs,
        verdicts,
        {(row["exchange"], row["symbol"]): row for row in instruments},
        fidelity,
        latest[np.array([key in known for key in latest_keys], np.bool_)].sort_values(keys),
        _read_table(stored, GAPS).sort_by([("from_time", "ascending"), ("sequence", "ascending")]),
        _read_frame(stored, COVERAGE).sort_values(["exchange", "symbol", "hour"]),
        _read_columns(stored, VALIDATIONS).to_pylist(),
    )


def list_fidelity_rows(frame: pd.DataFrame) -> list[FidelityRow]:
    """Return rows of `fidelity` as dicts.

    Parameters
    ----------
    frame : DataFrame
        Rows of `fidelity`. Columns that `FidelityRow` does not name are in the dicts too.
    """
    return cast(list[FidelityRow], frame.to_dict("records"))


def _read_table(stored: TableReader, table: Table) -> pa.Table:
    """Return all rows of a table; no rows if the table does not exist."""
    return stored.dataset(table).to_table() if stored.exists(table) else table.arrow.empty_table()


def _read_columns(stored: TableReader, table: Table) -> pa.Table:
    """Return all rows of a table, with the columns that `schemas.tables` declares, in that order."""
    return _read_table(stored, table).select(table.names)


def _read_frame(stored: TableReader, table: Table) -> pd.DataFrame:
    return _read_columns(stored, table).to_pandas()  # type: ignore[no-any-return]
