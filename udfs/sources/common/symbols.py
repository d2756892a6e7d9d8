"""Canonical names: `BTC-USDT`, `BTC-USDT-PERP`, `BTC-USD-241227`, whatever the venue's own spelling."""

from __future__ import annotations

import re

from deltabook.schemas.names import valid_name

_ASSETS = {"XBT": "BTC", "XDG": "DOGE"}
_DOLLARS = (
    "USDT",
    "USDC",
    "FDUSD",
    "TUSD",
    "BUSD",
    "USDP",
    "USD1",
    "USDE",
    "USDS",
    "DAI",
    "VAI",
    "USD",
    "PAX",
)
_MONEY = (
    *("AEUR", "EURI", "EUR", "GBP", "TRY", "BRL", "RUB", "UAH", "ZAR", "NGN", "IDRT", "BIDR", "BKRW", "BVND"),
    *("AUD", "CAD", "CHF", "JPY", "KRW", "SGD", "HKD", "INR", "PLN", "RON", "ARS", "MXN", "COP", "CZK"),
)
_COINS = ("BTC", "XBT", "ETH", "BNB", "TRX", "XRP", "DOGE", "DOT", "SOL")
_QUOTES = sorted((*_DOLLARS, *_MONEY, *_COINS), key=len, reverse=True)
"""What instruments are quoted in, longest first: a concatenated name is cut before the longest that fits."""
_SLASH = re.compile(r"(?<=[A-Z0-9])/(?=[A-Z0-9])")
_EXPIRY = re.compile(r"\d{6}")


def asset(name: str) -> str:
    """Return an asset's usual name: XBT is BTC, XDG is DOGE."""
    return _ASSETS.get(name, name)


def pair(concatenated: str, quote: str = "") -> str:
    """Return `BASE-QUOTE` of a name such as BTCUSDT; one whose quote is not known stays as it is."""
    if concatenated.startswith("XBT") and concatenated[3:] in _QUOTES:
        quote = concatenated[3:]
    for candidate in [quote] if quote else _QUOTES:
        if concatenated.endswith(candidate) and len(concatenated) > len(candidate):
            return f"{asset(concatenated.removesuffix(candidate))}-{asset(candidate)}"
    return concatenated


def canonical(spelled: str, *, perpetual: bool = False, quote: str = "") -> str:
    """Return the canonical name of an instrument.

    Parameters
    ----------
    spelled : str
        As the venue spells it: BTCUSDT, BTC-USDT, BTC/USDT, XBT/EUR, BTC-USDT-SWAP, BTCUSD_PERP,
        BTCUSDT_241227, BTC-PERPETUAL; any case.
    perpetual : bool
        Whether a name without an expiry is a perpetual future on this market.
    quote : str
        What this market quotes everything in, if it is one asset.

    Returns
    -------
    str
        Matches `schemas.names.NAME_PATTERN`.

    Raises
    ------
    InputError
        If it is no name.
    """
    valid = valid_name(_SLASH.sub("-", spelled.upper()) if spelled.isascii() else spelled, "symbol")
    parts = re.split(r"[-_]", valid)
    if not all(parts):
        return valid
    last = parts[-1]
    if last in ("PERP", "PERPETUAL", "SWAP"):
        parts, perpetual, expiry = parts[:-1], True, ""
    elif len(parts) > 1 and _EXPIRY.fullmatch(last):
        parts, perpetual, expiry = parts[:-1], False, last
    else:
        expiry = ""
    if len(parts) == 1:
        parts = pair(parts[0], quote).split("-")
        if len(parts) == 1 and last == "PERPETUAL":
            parts.append("USD")  # Deribit's BTC-PERPETUAL is inverse: quoted in dollars
    name = "-".join(asset(part) for part in parts)
    return valid_name(f"{name}-PERP" if perpetual else f"{name}-{expiry}" if expiry else name, "symbol")
