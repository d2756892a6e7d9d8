"""No reader accepts a symbol or exchange that a path, a query or an option would misread."""

from __future__ import annotations

import pytest
from csv_tables import UPDATES, table, update
from lake_tables import delta_rows, refusal, without, written
from test_limits import READERS, book_of, records_in, staged

from deltabook.jobs.runtime.settings import load_settings
from deltabook.schemas.errors import InputError, SettingsError
from deltabook.schemas.names import valid_name
from deltabook.udfs.sources.common import symbols
from deltabook.udfs.sources.common.limits import Limits

HOSTILE = [
    ".",
    "..",
    "...",
    "-",
    "--",
    "-x",
    "--help",
    "-BTC-USDT",
    "_",
    "__X",
    "._-",
    "",
    "../x",
    "a/b/../c",
    "%2E%2E",
]
HOSTILE += ["~", "X Y", "X\x00", "X'--", "$HOME", "X=Y", "*", "X\\Y", "X;Y", "ＢＴＣ", "x" * 41]
"""None of them is a name, in any case."""
USUAL = [".BXBT", "BTC-USDT", "1000PEPE-USDT", "BTC_USDT-241227", "A", "0", "BTC-", "X_", "A..B"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_is_refused_by_the_pattern_and_by_the_spelling_rules(name):
    for spelled in (name, name.upper()):
        with pytest.raises(InputError, match="is refused"):
            valid_name(spelled, "symbol")
    for perpetual in (False, True):
        with pytest.raises(InputError, match="is refused"):
            symbols.canonical_symbol(name, perpetual=perpetual)


@pytest.mark.parametrize("name", USUAL)
def test_usual_name_is_taken(name):
    assert valid_name(name, "symbol") == name


@pytest.mark.parametrize("name", [".", "..", "-", "-x", "....", "_", "--warehouse"])
@pytest.mark.parametrize("reader", READERS)
def test_symbol_of_no_reader_may_be_a_hostile_name(tmp_path, reader, name):
    source, write_books, _ = READERS[reader]
    files, (end,) = staged(source, write_books(tmp_path, [(name, book_of(1))]), tmp_path / "staged", Limits())
    if source == "crypto_lake":
        assert (files, end["failed"]) == ([], True)
        reasons = [end["reason"]]
    else:
        found = [row for row in records_in(files) if not row["damaged"]]
        assert {row["record"] for row in found} == {"quarantine"}
        reasons = [row["reason"] for row in found]
    assert all("is refused" in reason for reason in reasons)


@pytest.mark.parametrize("name", [".", "..", "-", "-x", "....", "_", "--warehouse"])
def test_exchange_of_no_reader_may_be_a_hostile_name(tmp_path, name):
    path = tmp_path / "raw.csv"
    path.write_bytes(table(UPDATES, update(1, "bid", 1, 1, True, exchange=name)))
    files, _ = staged("tardis", path, tmp_path / "staged", Limits())
    assert [(row["record"], "is refused" in row["reason"]) for row in records_in(files)] == [
        ("quarantine", True)
    ]
    assert "is refused" in refusal(written(tmp_path, delta_rows(exchange=[name] * 6)))
    rest = without(delta_rows(), "exchange", "symbol")
    assert "is refused" in refusal(written(tmp_path, rest, hive=f"exchange={name}/symbol=BTC-USDT"))
    assert "is refused" in refusal(written(tmp_path, rest, hive=f"exchange=BINANCE/symbol={name}"))
    assert "is refused" in refusal(written(tmp_path, rest, hive="exchange=BINANCE/symbol=%2E%2E"))
    for instruments in (
        {name: {"BTC-USDT": {"is_decimal": True}}},
        {"BINANCE": {name: {"is_decimal": True}}},
    ):
        with pytest.raises(SettingsError, match="is refused"):
            load_settings(None, {"instruments": instruments})
