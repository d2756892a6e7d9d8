"""Symbols are found as the tables spell them, and as people and venues do."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltabook.jobs.tables import instrument_lookup
from deltabook.jobs.tables.instrument_lookup import find_instrument, find_instruments, resolve_symbol
from deltabook.schemas.errors import WarehouseError

INSTRUMENTS = [
    ("BINANCE", "BTC-USDT"),
    ("BINANCE_FUTURES", "BTC-USDT-PERP"),
    ("BYBIT", "ETH-USDT-PERP"),
    ("OKX", "BTC-USDT"),
    ("DERIBIT", "BTC-USD-210924"),
]


@pytest.fixture(autouse=True)
def warehouse(monkeypatch):
    class Tables:
        def __init__(self, *_):
            pass

        def rows(self, _):
            return [{"exchange": exchange, "symbol": symbol} for exchange, symbol in INSTRUMENTS]

    monkeypatch.setattr(instrument_lookup, "TableReader", Tables)
    monkeypatch.setattr(instrument_lookup, "require_published", lambda _: {})


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("BTC-USDT", "BTC-USDT"),
        ("BTCUSDT", "BTC-USDT"),
        ("btc/usdt", "BTC-USDT"),
        ("btc_usdt_perp", "BTC-USDT-PERP"),
        ("BTCUSDTPERP", "BTC-USDT-PERP"),
        ("ETHUSDT", "ETH-USDT-PERP"),  # there is no spot instrument of that name
        ("BTCUSD210924", "BTC-USD-210924"),
    ],
)
def test_any_spelling_finds_the_instrument(typed, found):
    assert {row["symbol"] for row in find_instruments(Path("w"), typed)} == {found}
    assert resolve_symbol(Path("w"), typed) == found


def test_an_unknown_symbol_is_an_error_with_the_nearest():
    with pytest.raises(WarehouseError, match="did you mean BTC-USDT"):
        find_instruments(Path("w"), "BTC-USDX")
    assert resolve_symbol(Path("w"), "BTC-USDX") == "BTC-USDX"


def test_a_symbol_of_several_exchanges_needs_the_exchange():
    with pytest.raises(WarehouseError, match="listed on BINANCE, OKX"):
        find_instrument(Path("w"), "BTCUSDT")
    assert find_instrument(Path("w"), "BTCUSDT", "OKX")["exchange"] == "OKX"
