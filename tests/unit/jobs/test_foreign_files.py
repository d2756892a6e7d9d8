"""One instrument of another source refuses the whole file, whatever its other instruments are."""

from __future__ import annotations

import pytest

from deltabook.jobs.intake.staged_files import StagedFiles
from deltabook.jobs.pipeline.ingest import _find_foreign_files
from deltabook.schemas.rows import InstrumentRow, StagedRow

FOREIGN, NEW = ("BINANCE", "BTC-USDT"), ("BINANCE", "ETH-USDT")


def staged(path: str, instrument: tuple[str, str]) -> StagedRow:
    return StagedRow(0, path, "book_update", *instrument, "staged", 1, False, 1, "")


@pytest.mark.parametrize("instruments", [(FOREIGN, NEW), (NEW, FOREIGN), (FOREIGN,)])
def test_one_foreign_instrument_refuses_the_file(instruments):
    known = {FOREIGN: InstrumentRow({"feed": "binance"})}
    files = StagedFiles(staged("table.csv", instrument) for instrument in instruments)
    built_from, reasons = _find_foreign_files(known, {"table.csv": "tardis"}, files)
    assert "BINANCE BTC-USDT is built from source binance" in reasons["table.csv"]
    assert built_from[FOREIGN] == "binance"
