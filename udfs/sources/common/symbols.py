"""Converts venues' symbols to canonical symbols: `BTC-USDT`, `BTC-USDT-PERP`, `BTC-USD-241227`.

A canonical symbol is the name under which the tables store an instrument, whatever source its messages have.
"""

from __future__ import annotations

import re
from functools import lru_cache

from deltabook.schemas.names import valid_name
from deltabook.udfs.sources.common.assets import ASSETS

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
"""Quote assets, longest first. BTCUSDT is split before USDT, the longest quote asset at its end."""
_BASES_OF = {"AEUR": ("BTC", "ETH", "EUR", "BNB", "SOL")}
"""{quote asset: the only base assets that it has}; GALAEUR is GALA-EUR, although GAL is an asset."""
_SLASH = re.compile(r"(?<=[A-Z0-9])/(?=[A-Z0-9])")
_EXPIRY = re.compile(r"\d{6}")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY = re.compile(rf"([0-9]{{1,2}})({'|'.join(_MONTHS)})([0-9]{{2}})")


def expand_expiry(text: str) -> str:
    """Return an expiry such as 24SEP21 as yymmdd, such as 210924; any other text unchanged.

    Parameters
    ----------
    text : str
        The expiry as a venue prints it, in upper case.
    """
    match = _DAY.fullmatch(text)
    if match is None:
        return text
    day, month, year = match.groups()
    return f"{year}{_MONTHS.index(month) + 1:02}{int(day):02}"


def canonical_asset(name: str) -> str:
    """Return the canonical name of an asset: XBT becomes BTC, XDG becomes DOGE."""
    return _ASSETS.get(name, name)


def split_pair(concatenated: str, quote: str = "") -> str:
    """Split a concatenated symbol into `BASE-QUOTE`.

    Parameters
    ----------
    concatenated : str
        A symbol such as BTCUSDT, in upper case.
    quote : str
        The only quote asset of the market; empty to try all known quote assets.

    Returns
    -------
    str
        A symbol such as BTC-USDT; the symbol unchanged if it ends with no known quote asset. If it ends with
        several, a pair whose base is one of `ASSETS` is preferred, then the longest quote asset.
    """
    if concatenated.startswith("XBT") and concatenated[3:] in _QUOTES:
        quote = concatenated[3:]
    pairs = [
        (concatenated.removesuffix(candidate), candidate)
        for candidate in ([quote] if quote else _QUOTES)
        if concatenated.endswith(candidate) and len(concatenated) > len(candidate)
    ]
    if not pairs:
        return concatenated
    # A symbol may end with two quote assets, such as ADAEUR with AEUR and with EUR. The pair whose base is a
    # known asset is meant: ADA is one, AD is not.
    known = [(base, quoted) for base, quoted in pairs if base in ASSETS and _is_market(base, quoted)]
    base, quoted = (known or pairs)[0]
    return f"{canonical_asset(base)}-{canonical_asset(quoted)}"


def _is_market(base: str, quote: str) -> bool:
    """Return whether a quote asset of few markets has a market of this base asset."""
    return quote not in _BASES_OF or base in _BASES_OF[quote]


@lru_cache(maxsize=1 << 12)
def canonical_symbol(venue_symbol: str, *, perpetual: bool = False, quote: str = "") -> str:
    """Return the canonical symbol of an instrument.

    Parameters
    ----------
    venue_symbol : str
        The symbol as the venue prints it: BTCUSDT, BTC-USDT, BTC/USDT, XBT/EUR, BTC-USDT-SWAP, BTCUSD_PERP,
        BTCUSDT_241227, BTC-PERPETUAL; any case.
    perpetual : bool
        Whether a symbol without an expiry is a perpetual future on this market.
    quote : str
        The only quote asset of the market; empty if the market has several quote assets.

    Returns
    -------
    str
        A symbol that matches `schemas.names.NAME_PATTERN`.

    Raises
    ------
    InputError
        If the symbol has characters that a name must not have.
    """
    upper = _SLASH.sub("-", venue_symbol.upper()) if venue_symbol.isascii() else venue_symbol
    valid = valid_name(upper, "symbol")
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
        parts = split_pair(parts[0], quote).split("-")
        if len(parts) == 1 and last == "PERPETUAL":
            parts.append("USD")  # Deribit's BTC-PERPETUAL is inverse: quoted in dollars
    name = "-".join(canonical_asset(part) for part in parts)
    return valid_name(f"{name}-PERP" if perpetual else f"{name}-{expiry}" if expiry else name, "symbol")
