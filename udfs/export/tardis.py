"""Tardis.dev's table `book_snapshot_N`: a row of books a line of CSV, in gzip.

Names of files, exchanges and symbols are the vendor's; numbers are exact, without an exponent.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.export.rows import Target, proven_rows
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.exported_numbers import bounds
from deltabook.udfs.sources.tardis.source import instrument
from deltabook.udfs.storage.prefetch import ahead

_READ = ("order_time", "timestamp", "received", "sequence", "status", *SIDE_NAMES)
_OKX = {"PERP": "okex-swap", "": "okex"}
"""The vendor tells OKX's markets apart; a dated future is of `okex-futures`."""
_COMPRESSION = 3
_GZIP = 31
_LONGEST_NUMBER, _LONGEST_TIME = 22, 20
_ZERO, _POINT, _COMMA, _NEWLINE = ord("0"), ord("."), ord(","), ord("\n")


def path_of(target: Target) -> str:
    """Return where a symbol-day goes: a slash of a symbol is a dash there, as in the vendor's files."""
    exchange, symbol = vendor_names(target.of.exchange, target.of.symbol)
    table = f"book_snapshot_{target.asked.levels}"
    return f"{exchange}_{table}_{target.of.date}_{symbol.replace('/', '-')}.csv.gz"


def vendor_names(exchange: str, symbol: str) -> tuple[str, str]:
    """Name an instrument as Tardis does.

    Parameters
    ----------
    exchange, symbol : str
        As in the tables: BINANCE_FUTURES, BTC-USDT-PERP.

    Returns
    -------
    (str, str)
        `binance-futures`, `BTCUSDT`: what the source `tardis` reads as the same instrument.

    Raises
    ------
    InputError
        If no spelling is known that is read as it.
    """
    kind = "-".join(symbol.split("-")[2:])
    market = f"{exchange}_SPOT" if exchange == "BYBIT" and not kind else exchange
    venue = _OKX.get(kind, "okex-futures") if exchange == "OKX" else market.lower().replace("_", "-")
    for spelled in _spellings(venue, symbol):
        try:
            if instrument(venue, spelled) == (market, symbol):
                return venue, spelled
        except InputError:
            continue
    raise InputError(f"{exchange} {symbol}: not known how Tardis names it; export it as parquet")


def _spellings(venue: str, symbol: str) -> Iterator[str]:
    """Yield what a symbol may be called, the vendor's likeliest way first."""
    base, _, rest = symbol.partition("-")
    quote, _, kind = rest.partition("-")
    together = f"{base}{quote}"
    perpetual = kind == "PERP"
    if venue.startswith("okex"):
        yield f"{base}-{quote}-SWAP" if perpetual else symbol
    elif venue == "kraken":
        names = {"BTC": "XBT", "DOGE": "XDG"}
        yield f"{names.get(base, base)}/{names.get(quote, quote)}"
    elif venue == "deribit":
        yield f"{base}-PERPETUAL" if perpetual and quote == "USD" else symbol
    elif venue == "bitmex" and base == "BTC":
        yield f"XBT{quote}"
    elif kind and (not perpetual or venue == "binance-delivery"):
        yield f"{together}_{kind}"
    yield together
    yield symbol


def write(target: Target, path: Path) -> None:
    """Write a symbol-day; nothing at all if it has no rows.

    Parameters
    ----------
    target : Target
        What is written.
    path : Path
        The file.
    """
    gzip, stream = zlib.compressobj(_COMPRESSION, wbits=_GZIP), None
    try:
        for text in ahead(_texts(target)):
            if stream is None:
                stream = path.open("wb")
                stream.write(gzip.compress(_header(target.asked.levels)))
            stream.write(gzip.compress(text))
        if stream is not None:
            stream.write(gzip.flush())
    finally:
        if stream is not None:
            stream.close()


def _header(levels: int) -> bytes:
    named = (f"{side}s[{level}]" for level in range(levels) for side in ("ask", "bid"))
    columns = ",".join(f"{name}.price,{name}.amount" for name in named)
    return f"exchange,symbol,timestamp,local_timestamp,{columns}\n".encode()


def _texts(target: Target) -> Iterator[bytes]:
    exchange, symbol = vendor_names(target.of.exchange, target.of.symbol)
    prefix = np.frombuffer(f"{exchange},{symbol},".encode(), dtype=np.uint8)
    for batch in proven_rows(target, _READ):
        times = _times(batch)
        if target.of.is_decimal:
            yield _printed(prefix.tobytes(), times, batch, target.asked.levels)
        else:
            yield _lines(prefix, times, batch, target)


def _times(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return both times of each row, µs; where one is not given, the other, or that of its place."""
    stamps, received, place = (batch[name].to_numpy() for name in ("timestamp", "received", "order_time"))
    known = np.where(stamps == NOT_GIVEN, place, stamps)
    local = np.where(received == NOT_GIVEN, known, received)
    return np.stack([np.where(stamps == NOT_GIVEN, local, stamps), local], axis=1) // 1000


def _lines(
    prefix: NDArray[np.uint8], times: NDArray[np.int64], batch: pa.RecordBatch, target: Target
) -> bytes:
    levels = target.asked.levels
    longest = len(prefix) + 2 * _LONGEST_TIME + 4 * levels * _LONGEST_NUMBER + 1
    out = np.empty(batch.num_rows * longest, dtype=np.uint8)
    sides = []
    for side in ("ask", "bid"):
        values = [batch[f"{side}_{what}"].flatten().to_numpy() for what in ("prices", "sizes")]
        sides += [bounds(batch[f"{side}_prices"]), *values]
    scales = target.scale_of["price_scale"], target.scale_of["size_scale"]
    return out[: write_lines(prefix, times, *sides, *scales, levels, out)].tobytes()


def _printed(prefix: bytes, times: NDArray[np.int64], batch: pa.RecordBatch, levels: int) -> bytes:
    """Print rows of DECIMAL(38,18): few instruments need it."""
    columns = [batch[f"{side}_{what}"].to_pylist() for side in ("ask", "bid") for what in ("prices", "sizes")]
    lines = []
    for (stamp, local), *sides in zip(times.tolist(), *columns, strict=True):
        fields = [str(stamp), str(local)]
        for level in range(levels):
            fields += [_plain(side[level]) if level < len(side) else "" for side in sides]
        lines.append(prefix + ",".join(fields).encode() + b"\n")
    return b"".join(lines)


def _plain(number: object) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@kernel
def write_lines(
    prefix,
    times,
    ask_starts,
    ask_prices,
    ask_sizes,
    bid_starts,
    bid_prices,
    bid_sizes,
    price_scale,
    size_scale,
    levels,
    out,
):
    """Print rows of books; cost: a division a digit.

    Parameters
    ----------
    prefix : uint8[:]
        What each line begins with.
    times : int64[n, 2]
        What follows.
    ask_starts, bid_starts : int64[n + 1]
        Where each row's levels begin.
    ask_prices, ask_sizes, bid_prices, bid_sizes : int64[:]
        Scaled, best first.
    price_scale, size_scale : int
        Decimal digits.
    levels : int
        Levels a side in each line.
    out : uint8[:]
        Must have room.

    Returns
    -------
    int
        Bytes written.
    """
    at = 0
    for row in range(len(times)):
        for place in range(len(prefix)):
            out[at] = prefix[place]
            at += 1
        at = write_number(times[row, 0], 0, out, at)
        out[at] = _COMMA
        at = write_number(times[row, 1], 0, out, at + 1)
        for level in range(levels):
            at = _write_level(ask_starts, ask_prices, ask_sizes, row, level, price_scale, size_scale, out, at)
            at = _write_level(bid_starts, bid_prices, bid_sizes, row, level, price_scale, size_scale, out, at)
        out[at] = _NEWLINE
        at += 1
    return at


@kernel
def _write_level(starts, prices, sizes, row, level, price_scale, size_scale, out, at):
    """Print a comma and a price, a comma and a size, or the commas alone where a side has ended."""
    place = starts[row] + level
    out[at] = _COMMA
    at += 1
    if place < starts[row + 1]:
        at = write_number(prices[place], price_scale, out, at)
    out[at] = _COMMA
    at += 1
    if place < starts[row + 1]:
        at = write_number(sizes[place], size_scale, out, at)
    return at


@kernel
def write_number(value, scale, out, at):
    """Print a number from 0: no trailing zeros, no bare point, no exponent.

    Parameters
    ----------
    value : int64
        Times 10^scale.
    scale : int
        Decimal digits.
    out : uint8[:]
        Where to.
    at : int
        From this place on.

    Returns
    -------
    int
        The place behind it.
    """
    while scale > 0 and value % 10 == 0:
        value //= 10
        scale -= 1
    digits = 1
    rest = value // 10
    while rest > 0:
        digits += 1
        rest //= 10
    digits = max(digits, scale + 1)
    end = at + digits + (1 if scale > 0 else 0)
    place = end - 1
    for digit in range(digits):
        if scale > 0 and digit == scale:
            out[place] = _POINT
            place -= 1
        out[place] = _ZERO + value % 10
        value //= 10
        place -= 1
    return end
