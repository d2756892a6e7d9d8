"""Exports books in the format of Tardis.dev's table `book_snapshot_N`: gzipped CSV with one book per line.

Files, exchanges and symbols have the names that Tardis.dev uses. Numbers are exact and have no exponent.
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
from deltabook.udfs.export.rows import SymbolDay, read_sound_rows
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.exported_numbers import bounds
from deltabook.udfs.replay.clocks import fill_missing_times
from deltabook.udfs.sources.tardis.source import instrument
from deltabook.udfs.storage.prefetch import prefetch

_COLUMNS = ("order_time", "timestamp", "received", "sequence", "status", *SIDE_NAMES)
_OKX_EXCHANGES = {"PERP": "okex-swap", "": "okex"}
"""{kind of OKX symbol: exchange at Tardis.dev}; dated futures are not listed and belong to `okex-futures`."""
_COMPRESSION_LEVEL = 3
_GZIP_WBITS = 31
_MAX_NUMBER_BYTES, _MAX_TIME_BYTES = 22, 20
"""Largest number of bytes of a printed number, and of a printed time, each with one comma."""
_ZERO, _POINT, _COMMA, _NEWLINE = ord("0"), ord("."), ord(","), ord("\n")


def make_path(day: SymbolDay) -> str:
    """Return the path of a symbol-day's file, relative to the export's folder.

    A slash in a symbol becomes a dash, as in the vendor's files.
    """
    key = day.instrument
    exchange, symbol = make_vendor_names(key.exchange, key.symbol)
    table = f"book_snapshot_{day.request.levels}"
    return f"{exchange}_{table}_{key.date}_{symbol.replace('/', '-')}.csv.gz"


def make_vendor_names(exchange: str, symbol: str) -> tuple[str, str]:
    """Return the names that Tardis.dev uses for an instrument.

    Parameters
    ----------
    exchange, symbol : str
        Names as the tables store them, for example BINANCE_FUTURES and BTC-USDT-PERP.

    Returns
    -------
    (str, str)
        Exchange and symbol of Tardis.dev, which the source `tardis` reads as the same instrument, for example
        `binance-futures` and `BTCUSDT`.

    Raises
    ------
    InputError
        If the source `tardis` reads none of the likely spellings as this instrument.
    """
    kind = "-".join(symbol.split("-")[2:])
    market = f"{exchange}_SPOT" if exchange == "BYBIT" and not kind else exchange
    venue = market.lower().replace("_", "-")
    if exchange == "OKX":
        venue = _OKX_EXCHANGES.get(kind, "okex-futures")
    for spelling in _guess_spellings(venue, symbol):
        try:
            if instrument(venue, spelling) == (market, symbol):
                return venue, spelling
        except InputError:
            continue
    raise InputError(
        f"{exchange} {symbol}: the name of this instrument at Tardis.dev is unknown. Export the instrument "
        "with --format parquet"
    )


def _guess_spellings(venue: str, symbol: str) -> Iterator[str]:
    """Yield possible spellings of a symbol at Tardis.dev, the most likely spelling first."""
    base, _, rest = symbol.partition("-")
    quote, _, kind = rest.partition("-")
    pair = f"{base}{quote}"
    is_perpetual = kind == "PERP"
    if venue.startswith("okex"):
        yield f"{base}-{quote}-SWAP" if is_perpetual else symbol
    elif venue == "kraken":
        names = {"BTC": "XBT", "DOGE": "XDG"}
        yield f"{names.get(base, base)}/{names.get(quote, quote)}"
    elif venue == "deribit":
        yield f"{base}-PERPETUAL" if is_perpetual and quote == "USD" else symbol
    elif venue == "bitmex" and base == "BTC":
        yield f"XBT{quote}"
    elif kind and (not is_perpetual or venue == "binance-delivery"):
        yield f"{pair}_{kind}"
    yield pair
    yield symbol


def write_file(day: SymbolDay, path: Path) -> None:
    """Write the file of a symbol-day; write no file if the symbol-day has no rows.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day to export.
    path : Path
        The file to write.
    """
    gzip, stream = zlib.compressobj(_COMPRESSION_LEVEL, wbits=_GZIP_WBITS), None
    try:
        for text in prefetch(_print_batches(day)):
            if stream is None:
                stream = path.open("wb")
                stream.write(gzip.compress(_print_header(day.request.levels)))
            stream.write(gzip.compress(text))
        if stream is not None:
            stream.write(gzip.flush())
    finally:
        if stream is not None:
            stream.close()


def _print_header(levels: int) -> bytes:
    names = (f"{side}s[{level}]" for level in range(levels) for side in ("ask", "bid"))
    columns = ",".join(f"{name}.price,{name}.amount" for name in names)
    return f"exchange,symbol,timestamp,local_timestamp,{columns}\n".encode()


def _print_batches(day: SymbolDay) -> Iterator[bytes]:
    """Yield the lines of the file, many lines in one bytes object."""
    exchange, symbol = make_vendor_names(day.instrument.exchange, day.instrument.symbol)
    prefix = np.frombuffer(f"{exchange},{symbol},".encode(), dtype=np.uint8)
    for batch in read_sound_rows(day, _COLUMNS):
        times = _make_times(batch)
        if day.instrument.is_decimal:
            yield _print_decimals(prefix.tobytes(), times, batch, day.request.levels)
        else:
            yield _print_integers(prefix, times, batch, day)


def _make_times(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return the exchange's time and the recorder's time of each row, µs since 1970 UTC, int64[n, 2].

    If one of the two times is missing, the other time replaces it. If both are missing, `order_time` replaces
    both.
    """
    timestamps, received, order_time = (
        batch[name].to_numpy() for name in ("timestamp", "received", "order_time")
    )
    local = fill_missing_times(received, fill_missing_times(timestamps, order_time))
    return np.stack([fill_missing_times(timestamps, local), local], axis=1) // 1000


def _print_integers(
    prefix: NDArray[np.uint8], times: NDArray[np.int64], batch: pa.RecordBatch, day: SymbolDay
) -> bytes:
    """Return the lines for rows whose numbers are scaled integers."""
    levels = day.request.levels
    max_line_bytes = len(prefix) + 2 * _MAX_TIME_BYTES + 4 * levels * _MAX_NUMBER_BYTES + 1
    out = np.empty(batch.num_rows * max_line_bytes, dtype=np.uint8)
    sides = []
    for side in ("ask", "bid"):
        numbers = [batch[f"{side}_{name}"].flatten().to_numpy() for name in ("prices", "sizes")]
        sides += [bounds(batch[f"{side}_prices"]), *numbers]
    scales = day.scales["price_scale"], day.scales["size_scale"]
    return out[: write_lines(prefix, times, *sides, *scales, levels, out)].tobytes()


def _print_decimals(prefix: bytes, times: NDArray[np.int64], batch: pa.RecordBatch, levels: int) -> bytes:
    """Return the lines for rows whose numbers are DECIMAL(38,18); few instruments have such rows."""
    columns = [batch[f"{side}_{name}"].to_pylist() for side in ("ask", "bid") for name in ("prices", "sizes")]
    lines = []
    for (timestamp, local), *sides in zip(times.tolist(), *columns, strict=True):
        fields = [str(timestamp), str(local)]
        for level in range(levels):
            fields += [_print_number(side[level]) if level < len(side) else "" for side in sides]
        lines.append(prefix + ",".join(fields).encode() + b"\n")
    return b"".join(lines)


def _print_number(number: object) -> str:
    """Return a decimal number without trailing zeros and without an exponent."""
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
    """Print lines of CSV for rows of books. Cost: one division for each printed digit.

    Parameters
    ----------
    prefix : uint8[:]
        Text at the start of each line: exchange and symbol, each with a comma.
    times : int64[n, 2]
        The exchange's time and the recorder's time of each row, µs since 1970 UTC.
    ask_starts : int64[n + 1]
        Row i has the asks ``ask_starts[i]:ask_starts[i + 1]``.
    ask_prices, ask_sizes : int64[:]
        Asks of all rows as scaled integers, best ask of each row first.
    bid_starts : int64[n + 1]
        Row i has the bids ``bid_starts[i]:bid_starts[i + 1]``.
    bid_prices, bid_sizes : int64[:]
        Bids of all rows as scaled integers, best bid of each row first.
    price_scale, size_scale : int
        Decimal digits of prices and of sizes.
    levels : int
        Number of levels per side in each line; missing levels become empty fields.
    out : uint8[:]
        Written: the lines. The array must have room for all lines.

    Returns
    -------
    int
        Number of bytes written.
    """
    position = 0
    for row in range(len(times)):
        for index in range(len(prefix)):
            out[position] = prefix[index]
            position += 1
        position = write_number(times[row, 0], 0, out, position)
        out[position] = _COMMA
        position = write_number(times[row, 1], 0, out, position + 1)
        for level in range(levels):
            position = _write_level(
                ask_starts, ask_prices, ask_sizes, row, level, price_scale, size_scale, out, position
            )
            position = _write_level(
                bid_starts, bid_prices, bid_sizes, row, level, price_scale, size_scale, out, position
            )
        out[position] = _NEWLINE
        position += 1
    return position


@kernel
def _write_level(starts, prices, sizes, row, level, price_scale, size_scale, out, position):
    """Print one level of a row as `,price,size`, or as `,,` if the side has no such level."""
    index = starts[row] + level
    out[position] = _COMMA
    position += 1
    if index < starts[row + 1]:
        position = write_number(prices[index], price_scale, out, position)
    out[position] = _COMMA
    position += 1
    if index < starts[row + 1]:
        position = write_number(sizes[index], size_scale, out, position)
    return position


@kernel
def write_number(value, scale, out, position):
    """Print a number that is not negative, without trailing zeros, without exponent.

    The decimal point is printed only if a digit follows.

    Parameters
    ----------
    value : int64
        The number times 10^scale, 0 or more.
    scale : int
        Decimal digits of the number.
    out : uint8[:]
        Written: the printed number. The array must have room for the number.
    position : int
        Index of the first byte to write.

    Returns
    -------
    int
        Index after the last written byte.
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
    end = position + digits + (1 if scale > 0 else 0)
    index = end - 1
    for digit in range(digits):
        if scale > 0 and digit == scale:
            out[index] = _POINT
            index -= 1
        out[index] = _ZERO + value % 10
        value //= 10
        index -= 1
    return end
