"""Row types have the columns of their tables and frames, with the types that Spark and Arrow return."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from deltabook.schemas import rows
from deltabook.schemas.columns import Table
from deltabook.schemas.exports import EXPORT_REFERENCES, EXPORTED
from deltabook.schemas.frames import (
    CARRIED,
    EVENT_REFERENCES,
    JUDGE_REFERENCES,
    JUDGED,
    OTHER_REFERENCES,
    PARTS,
    REBUILD_REFERENCES,
    REBUILT,
    STAGED,
    STREAM_REFERENCES,
    SURVEY,
    TOTAL_REFERENCES,
)
from deltabook.schemas.tables import CHECKS, EPOCHS, FILES, HOURS, INSTRUMENTS, RUNS, WRITTEN
from deltabook.schemas.validation_tables import VERDICTS

PYTHON_TYPES = {
    "BIGINT": int,
    "INT": int,
    "BOOLEAN": bool,
    "BINARY": bytes,
    "STRING": str,
    "DOUBLE": float,
    "ARRAY<BIGINT>": list[int],
    "ARRAY<STRING>": list[str],
    "ARRAY<DECIMAL(38,0)>": list[int],
    "MAP<STRING, BIGINT>": dict[str, int],
}
DICTIONARIES = {
    rows.PartReference: PARTS,
    rows.StreamReference: STREAM_REFERENCES,
    rows.EventReference: EVENT_REFERENCES,
    rows.OtherReference: OTHER_REFERENCES,
    rows.RebuildReference: REBUILD_REFERENCES,
    rows.JudgeReference: JUDGE_REFERENCES,
    rows.TotalReference: TOTAL_REFERENCES,
    rows.ExportReference: EXPORT_REFERENCES,
    rows.InstrumentRow: INSTRUMENTS,
    rows.ChunkRow: HOURS,
    rows.EpochRow: EPOCHS,
    rows.LedgerRow: FILES,
    rows.CheckRow: CHECKS,
    rows.VerdictRow: VERDICTS,
    rows.RunRow: RUNS,
    rows.WrittenRow: WRITTEN,
}
TUPLES = {
    rows.StagedRow: STAGED,
    rows.SurveyRow: SURVEY,
    rows.RebuiltRow: REBUILT,
    rows.JudgedRow: JUDGED,
    rows.CarriedRow: CARRIED,
    rows.ExportedRow: EXPORTED,
}


@pytest.mark.parametrize(
    ("row", "table"),
    (DICTIONARIES | TUPLES).items(),
    ids=lambda value: value.__name__ if isinstance(value, type) else value.name,
)
def test_a_typed_row_has_the_fields_and_types_of_its_columns(row: type, table: Table):
    assert get_type_hints(row) == {column.name: PYTHON_TYPES[column.type] for column in table.columns}


@pytest.mark.parametrize(
    ("row", "table"),
    TUPLES.items(),
    ids=lambda value: value.__name__ if isinstance(value, type) else value.name,
)
def test_the_fields_of_a_result_have_the_order_of_its_columns(row, table: Table):
    assert [*row._fields] == table.names


def test_every_typed_row_belongs_to_a_table_or_to_the_rows_of_several():
    shared = {rows.ScaleFields, rows.VendorFields, rows.RecordingFields, rows.PublishedVersions}
    shared |= {rows.UnsealedRun, rows.FileRecord}
    defined = {value for value in vars(rows).values() if getattr(value, "__module__", "") == rows.__name__}
    assert defined == {*DICTIONARIES, *TUPLES, *shared}
