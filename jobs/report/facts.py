"""The small tables that a report is made from, as published, and how it prints numbers and times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.columns import Table
from deltabook.schemas.names import ALL_HOURS, Status
from deltabook.schemas.tables import COVERAGE, FIDELITY, GAPS, INSTRUMENTS, RUNS, VALIDATIONS, VERDICTS

STATUSES = (*(status.label for status in sorted(Status, reverse=True)), "silent")
"""What a book may be, best first, and silence: columns of `coverage`."""

Instrument = tuple[str, str]
"""Exchange and symbol."""


@dataclass
class Facts:
    """The small tables of a warehouse, as published.

    Attributes
    ----------
    stored : Stored
        Reads the others.
    runs : list of dict
        Oldest first.
    verdicts : list of dict
        `counts` as a dict.
    instruments : dict
        By exchange and symbol.
    fidelity : DataFrame
        Every row, oldest run first.
    standing : DataFrame
        Of each metric of each symbol-hour the newest row, of symbol-hours that there still are.
    gaps : Table
        In time.
    coverage : DataFrame
        In time.
    validations : list of dict
        All.
    """

    stored: Stored
    runs: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    instruments: dict[Instrument, dict[str, Any]]
    fidelity: pd.DataFrame
    standing: pd.DataFrame
    gaps: pa.Table
    coverage: pd.DataFrame
    validations: list[dict[str, Any]]


def read_facts(warehouse: Path) -> Facts:
    """Read the small tables.

    Parameters
    ----------
    warehouse : Path
        Folder of the Delta tables.

    Returns
    -------
    Facts
        As the newest run published them.

    Raises
    ------
    WarehouseError
        If nothing was published yet.
    """
    stored = Stored(warehouse.absolute(), require_published(warehouse))
    verdicts = [row | {"counts": dict(row["counts"])} for row in _rows(stored, VERDICTS)]
    runs = sorted(_rows(stored, RUNS), key=lambda run: (run["finished"], run["run_id"]))
    fidelity = _frame(stored, FIDELITY)
    order = {run["run_id"]: number for number, run in enumerate(runs)}
    fidelity = fidelity.iloc[np.argsort(fidelity["run_id"].map(order).fillna(-1), kind="stable")]
    keys = ["exchange", "symbol", "hour", "kind", "metric", "level"]
    standing = fidelity.drop_duplicates(keys, keep="last")
    known = {(row["exchange"], row["symbol"], row["hour"]) for row in verdicts}
    known |= {(*key[:2], ALL_HOURS) for key in known}
    rows = zip(standing["exchange"], standing["symbol"], standing["hour"], strict=True)
    return Facts(
        stored,
        runs,
        verdicts,
        {(row["exchange"], row["symbol"]): row for row in _rows(stored, INSTRUMENTS)},
        fidelity,
        standing[np.array([row in known for row in rows], np.bool_)].sort_values(keys),
        _table(stored, GAPS).sort_by([("from_time", "ascending"), ("sequence", "ascending")]),
        _frame(stored, COVERAGE).sort_values(["exchange", "symbol", "hour"]),
        _rows(stored, VALIDATIONS),
    )


def _table(stored: Stored, table: Table) -> pa.Table:
    return stored.dataset(table).to_table() if stored.exists(table) else table.arrow.empty_table()


def _rows(stored: Stored, table: Table) -> list[dict[str, Any]]:
    return _table(stored, table).select(table.names).to_pylist()  # type: ignore[no-any-return]


def _frame(stored: Stored, table: Table) -> pd.DataFrame:
    return _table(stored, table).select(table.names).to_pandas()  # type: ignore[no-any-return]
