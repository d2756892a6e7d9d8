"""Columns of Crypto Lake files: which table a file is of, its spellings and types, its instruments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import valid_name
from deltabook.udfs.sources.common.limits import too_many_symbols
from deltabook.udfs.sources.common.symbols import canonical

DELTAS, TRADES, BOOK = "book_delta_v2", "trades", "book"
MOST_BOOK_LEVELS = 5_000
"""Levels a side of a table of books: its readers hold some arrays for each."""
LONGEST_TEXT = 1_000
"""Bytes of a text: a file holds it once, and each of its rows would be read as that long."""
_DENSE_PAIRS = 1 << 20
"""Pairs of an exchange and a symbol for which a table is made; of more, those met are looked for."""
_TIMES: dict[str, tuple[str, ...]] = {
    "received_time": ("received_time", "receipt_timestamp"),
    "origin_time": ("origin_time", "timestamp"),
}
_BOOK: dict[str, tuple[str, ...]] = {**_TIMES, "sequence_number": ("sequence_number",)}
_SPELLINGS = {
    DELTAS: {**_BOOK, "side_is_bid": ("side_is_bid",), "price": ("price",), "size": ("size", "amount")},
    BOOK: _BOOK,
    TRADES: {
        **_TIMES,
        "side": ("side",),
        "quantity": ("quantity", "amount"),
        "price": ("price",),
        "trade_id": ("trade_id", "id"),
    },
}
_LEVEL_PARTS = ("bid_{}_price", "bid_{}_size", "ask_{}_price", "ask_{}_size")


def is_text(type_: pa.DataType) -> bool:
    """Whether a column of this type holds texts, as they are or as a dictionary."""
    type_ = type_.value_type if pt.is_dictionary(type_) else type_
    return bool(pt.is_string(type_) or pt.is_large_string(type_))


def _is_number(type_: pa.DataType) -> bool:
    return bool(pt.is_float64(type_) or pt.is_integer(type_) or pt.is_decimal128(type_) or is_text(type_))


_TYPES: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "time": (
        "a timestamp, int64 (ns) or float64 (s)",
        lambda type_: pt.is_timestamp(type_) or pt.is_int64(type_) or pt.is_float64(type_),
    ),
    "sequence_number": (
        "an integer",
        lambda type_: pt.is_integer(type_) or pt.is_null(type_) or pt.is_float64(type_),
    ),
    "side_is_bid": ("bool", pt.is_boolean),
    "side": ("text or bool", lambda type_: pt.is_boolean(type_) or is_text(type_)),
    "trade_id": ("an integer or text", lambda type_: pt.is_integer(type_) or is_text(type_)),
    "number": ("float64, decimal128, an integer or text", _is_number),
    "name": ("text", is_text),
}
_TYPE_OF = {"received_time": "time", "origin_time": "time", "exchange": "name", "symbol": "name"}


@dataclass(frozen=True)
class Layout:
    """What the columns of a file say.

    Attributes
    ----------
    table
        `DELTAS`, `TRADES` or `BOOK`.
    spelled
        The file's own name of each column, by the current one.
    depth
        Levels a side of a `BOOK`, else 0.
    """

    table: str
    spelled: dict[str, str]
    depth: int


def layout_of(schema: pa.Schema) -> Layout:
    """Tell which table a file is of, by its columns.

    Raises
    ------
    InputError
        If it is none, or a column has another type, or a book too many levels: names what was expected and
        what was found.
    """
    found = list(schema.names)
    names = set(found)
    if len(names) < len(found):
        raise InputError(f"columns have the same name: {_listed(found)}")
    depth = 0
    while any(part.format(depth) in names for part in _LEVEL_PARTS):
        depth += 1
    if depth > MOST_BOOK_LEVELS:
        raise InputError(f"a table of books may have {MOST_BOOK_LEVELS:,} levels a side, found {depth:,}")
    missing_of = {table: _missing(table, depth, found) for table in _SPELLINGS}
    table = min(missing_of, key=lambda table: len(missing_of[table]))
    if missing_of[table]:
        raise InputError(
            f"expected the columns of {table}: missing {', '.join(missing_of[table])}; found {_listed(found)}"
        )
    spelled = {
        name: next(spelling for spelling in spellings if spelling in found)
        for name, spellings in _spellings(table, depth).items()
    }
    spelled |= {name: name for name in ("exchange", "symbol") if name in found}
    for name, spelling in spelled.items():
        expected, is_right = _TYPES[_TYPE_OF.get(name, name if name in _TYPES else "number")]
        if not is_right(schema.field(spelling).type):
            raise InputError(f"column {spelling}: expected {expected}, found {schema.field(spelling).type}")
    return Layout(table, spelled, depth if table == BOOK else 0)


def _spellings(table: str, depth: int) -> dict[str, tuple[str, ...]]:
    if table != BOOK:
        return _SPELLINGS[table]
    names = [part.format(level) for level in range(max(depth, 1)) for part in _LEVEL_PARTS]
    return _SPELLINGS[BOOK] | {name: (name,) for name in names}


def _missing(table: str, depth: int, found: list[str]) -> list[str]:
    wanted = _spellings(table, depth).values()
    return [" or ".join(spellings) for spellings in wanted if not set(spellings) & set(found)]


def _listed(names: list[str]) -> str:
    return ", ".join(names)[:500] or "none"


def labels(column: pa.Array) -> tuple[NDArray[np.int32], list[str | None]]:
    """Return a text column as codes (-1: null) and the texts they stand for.

    Raises
    ------
    InputError
        If a text is not UTF-8, or too long.
    """
    if not pt.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = filled(column.indices, 0).astype(np.int32)
    if column.indices.null_count:
        codes[column.indices.is_null().to_numpy(zero_copy_only=False)] = -1
    texts = column.dictionary
    if len(texts) > len(codes):  # that of a whole row group: only what is met here becomes Python's
        met, places = np.unique(codes[codes >= 0], return_inverse=True)
        codes[codes >= 0] = places
        texts = texts.take(pa.array(met))
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > LONGEST_TEXT:
        raise InputError(f"a text has {longest:,} bytes, and a name, number or id may have {LONGEST_TEXT:,}")
    try:
        return codes, texts.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"a text is not UTF-8: {error}") from None


def filled(column: pa.Array, value: int) -> NDArray[np.int64]:
    """Return integers with nulls replaced; never through a float."""
    if column.null_count:
        column = pc.fill_null(column, value)
    return column.to_numpy()  # type: ignore[no-any-return]


class Instruments:
    """The exchanges and symbols of a file, from its columns or else its path.

    Parameters
    ----------
    path : str
        May hold `exchange=…/symbol=…`.
    spelled : dict
        Of the file's `Layout`.
    most_symbols : int
        Exchanges and symbols that the file may name.

    Attributes
    ----------
    names : list of (exchange, symbol)
        Canonical, by code.

    Raises
    ------
    InputError
        If neither names them.
    """

    def __init__(self, path: str, spelled: dict[str, str], most_symbols: int):
        self.most_symbols = most_symbols
        self.names: list[tuple[str, str]] = []
        self._codes: dict[tuple[str, str], int] = {}
        folders = dict(part.split("=", 1) for part in Path(path).parent.parts if "=" in part)
        self._fixed: dict[str, str] = {}
        for what in ("exchange", "symbol"):
            if what in spelled:
                continue
            if what not in folders:
                raise InputError(f"expected a column {what}, or a folder {what}=… in the path: found neither")
            self._fixed[what] = unquote(folders[what])

    def codes(self, batch: pa.RecordBatch) -> NDArray[np.int32]:
        """Return the code of each row's exchange and symbol.

        Raises
        ------
        InputError
            If a row has none, or a name is refused, or there are too many.
        """
        exchange_codes, exchanges = self._labels(batch, "exchange")
        symbol_codes, symbols = self._labels(batch, "symbol")
        if len(exchanges) == len(symbols) == 1:
            return np.full(batch.num_rows, self._code(exchanges[0], symbols[0]), dtype=np.int32)
        pairs = exchange_codes.astype(np.int64) * len(symbols) + symbol_codes
        if len(exchanges) * len(symbols) > _DENSE_PAIRS:
            met, places = np.unique(pairs, return_inverse=True)
            found = [
                self._code(exchanges[pair // len(symbols)], symbols[pair % len(symbols)])
                for pair in met.tolist()
            ]
            return np.array(found, dtype=np.int32)[places]
        table: NDArray[np.int32] = np.zeros(max(len(exchanges) * len(symbols), 1), dtype=np.int32)
        for pair in np.flatnonzero(np.bincount(pairs, minlength=1)).tolist():
            table[pair] = self._code(exchanges[pair // len(symbols)], symbols[pair % len(symbols)])
        codes: NDArray[np.int32] = table[pairs]
        return codes

    def _labels(self, batch: pa.RecordBatch, what: str) -> tuple[NDArray[np.int32], list[str | None]]:
        if what in self._fixed:
            return np.zeros(batch.num_rows, dtype=np.int32), [self._fixed[what]]
        column = batch[what]
        column = column if pt.is_dictionary(column.type) else column.dictionary_encode()
        if len(column.dictionary) > self.most_symbols:
            raise InputError(too_many_symbols(len(column.dictionary), self.most_symbols))
        codes, names = labels(column)
        if codes.size and codes.min() < 0:
            raise InputError(f"column {what}: a row has none")
        return codes, names

    def _code(self, exchange: str | None, symbol: str | None) -> int:
        if exchange is None or symbol is None:
            raise InputError("column exchange or symbol: a row has none")
        pair = (exchange, symbol)
        if pair not in self._codes:
            upper = exchange.upper() if exchange.isascii() else exchange
            if len(self.names) == self.most_symbols:
                raise InputError(too_many_symbols(len(self.names) + 1, self.most_symbols))
            self.names.append((valid_name(upper, "exchange"), canonical(symbol)))
            self._codes[pair] = len(self.names) - 1
        return self._codes[pair]
