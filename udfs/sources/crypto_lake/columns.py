"""Reads the schema of Crypto Lake files: detects the table, checks its columns and names its instruments."""

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
from deltabook.udfs.sources.common.symbols import canonical_symbol

DELTAS, TRADES, BOOK = "book_delta_v2", "trades", "book"
MAX_BOOK_LEVELS = 5_000
"""Largest number of levels per side of the table `book`; the reader holds some arrays for each level."""
MAX_TEXT_BYTES = 1_000
"""Largest length of a text, bytes. A small file can store a long text once and repeat it in every row."""
_DENSE_PAIRS = 1 << 20
"""Largest number of (exchange, symbol) pairs for which a lookup table is used instead of sorting."""
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
    """Return whether a column of this type holds texts, plain or dictionary-encoded."""
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
    """The table that a file contains, and the names of the file's columns.

    Attributes
    ----------
    table : str
        `DELTAS`, `TRADES` or `BOOK`.
    file_columns : dict
        {vendor's current name of a column: name of the column in the file}.
    depth : int
        Levels per side of a `BOOK` table; 0 for other tables.
    """

    table: str
    file_columns: dict[str, str]
    depth: int


def detect_layout(schema: pa.Schema) -> Layout:
    """Return the layout of a file: table, column names and depth.

    Parameters
    ----------
    schema : pyarrow.Schema
        Schema of the Parquet file.

    Returns
    -------
    Layout
        Layout of the table whose columns the file has.

    Raises
    ------
    InputError
        If no table has the file's columns, a column has a wrong type, or a book has too many levels. The
        error message gives the expected and the actual columns.
    """
    file_names = list(schema.names)
    names = set(file_names)
    if len(names) < len(file_names):
        raise InputError(f"columns have the same name: {_join_names(file_names)}")
    depth = 0
    while any(part.format(depth) in names for part in _LEVEL_PARTS):
        depth += 1
    if depth > MAX_BOOK_LEVELS:
        raise InputError(f"expected a book of at most {MAX_BOOK_LEVELS:,} levels per side, found {depth:,}")
    missing = {table: _missing_columns(table, depth, file_names) for table in _SPELLINGS}
    table = min(missing, key=lambda table: len(missing[table]))
    if missing[table]:
        raise InputError(
            f"expected the columns of {table}: missing {', '.join(missing[table])}; "
            f"found {_join_names(file_names)}"
        )
    file_columns = {
        name: next(spelling for spelling in spellings if spelling in names)
        for name, spellings in _spellings(table, depth).items()
    }
    file_columns |= {name: name for name in ("exchange", "symbol") if name in names}
    for name, spelling in file_columns.items():
        expected, is_right = _TYPES[_TYPE_OF.get(name, name if name in _TYPES else "number")]
        if not is_right(schema.field(spelling).type):
            raise InputError(f"column {spelling}: expected {expected}, found {schema.field(spelling).type}")
    return Layout(table, file_columns, depth if table == BOOK else 0)


def _spellings(table: str, depth: int) -> dict[str, tuple[str, ...]]:
    """Return {vendor's current column name: accepted names} of a table, for `depth` levels per side."""
    if table != BOOK:
        return _SPELLINGS[table]
    names = [part.format(level) for level in range(max(depth, 1)) for part in _LEVEL_PARTS]
    return _SPELLINGS[BOOK] | {name: (name,) for name in names}


def _missing_columns(table: str, depth: int, file_names: list[str]) -> list[str]:
    """Return the required columns of a table that a file lacks; alternative names are joined by "or"."""
    required = _spellings(table, depth).values()
    return [" or ".join(spellings) for spellings in required if not set(spellings) & set(file_names)]


def _join_names(names: list[str]) -> str:
    return ", ".join(names)[:500] or "none"


def encode_labels(column: pa.Array) -> tuple[NDArray[np.int32], list[str | None]]:
    """Encode a text column as codes and the distinct texts.

    Parameters
    ----------
    column : pyarrow.Array
        Texts, plain or dictionary-encoded.

    Returns
    -------
    (codes, texts) : (int32[n], list of str)
        Index of each value's text in `texts`, -1 for null; and the distinct texts.

    Raises
    ------
    InputError
        If a text is not UTF-8, or longer than `MAX_TEXT_BYTES`.
    """
    if not pt.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = fill_nulls(column.indices, 0).astype(np.int32)
    if column.indices.null_count:
        codes[column.indices.is_null().to_numpy(zero_copy_only=False)] = -1
    texts = column.dictionary
    if len(texts) > len(codes):  # the dictionary has the texts of a whole row group: keep the used texts
        used, new_codes = np.unique(codes[codes >= 0], return_inverse=True)
        codes[codes >= 0] = new_codes
        texts = texts.take(pa.array(used))
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > MAX_TEXT_BYTES:
        raise InputError(
            f"expected names, numbers and ids of at most {MAX_TEXT_BYTES:,} bytes, found {longest:,} bytes"
        )
    try:
        return codes, texts.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"a text is not UTF-8: {error}") from None


def fill_nulls(column: pa.Array, value: int) -> NDArray[np.int64]:
    """Return a column of integers as numpy, with nulls replaced by `value`.

    The nulls are replaced first, because Arrow converts a column with nulls to floats, which are not exact.
    """
    if column.null_count:
        column = pc.fill_null(column, value)
    filled: NDArray[np.int64] = column.to_numpy()
    return filled


class Instruments:
    """Instruments of a file, taken from the file's columns, or else from the folder names of the file's path.

    Parameters
    ----------
    path : str
        Path of the file; may contain folders `exchange=…` and `symbol=…`.
    file_columns : dict
        Column names of the file's `Layout`.
    most_symbols : int
        Largest number of instruments in a file.

    Attributes
    ----------
    names : list of (exchange, symbol)
        Canonical name of each instrument; the code of an instrument is its index in this list.

    Raises
    ------
    InputError
        If no column and no folder names the exchange, or no column and no folder names the symbol.
    """

    def __init__(self, path: str, file_columns: dict[str, str], most_symbols: int):
        self.most_symbols = most_symbols
        self.names: list[tuple[str, str]] = []
        self._codes: dict[tuple[str, str], int] = {}
        folders = dict(part.split("=", 1) for part in Path(path).parent.parts if "=" in part)
        self._fixed: dict[str, str] = {}
        for what in ("exchange", "symbol"):
            if what in file_columns:
                continue
            if what not in folders:
                raise InputError(
                    f"expected a column {what}, or a folder {what}=… in the path, found neither. Move the "
                    "file into such a folder"
                )
            self._fixed[what] = unquote(folders[what])

    def codes(self, batch: pa.RecordBatch) -> NDArray[np.int32]:
        """Return the code of each row's instrument, int32[n].

        Raises
        ------
        InputError
            If a row has no instrument, a name is invalid, or the file has too many instruments.
        """
        exchange_codes, exchanges = self._encode_names(batch, "exchange")
        symbol_codes, symbols = self._encode_names(batch, "symbol")
        if len(exchanges) == len(symbols) == 1:
            return np.full(batch.num_rows, self._code(exchanges[0], symbols[0]), dtype=np.int32)
        pairs = exchange_codes.astype(np.int64) * len(symbols) + symbol_codes
        if len(exchanges) * len(symbols) > _DENSE_PAIRS:
            used, index_of_pair = np.unique(pairs, return_inverse=True)
            used_codes = [
                self._code(exchanges[pair // len(symbols)], symbols[pair % len(symbols)])
                for pair in used.tolist()
            ]
            return np.array(used_codes, dtype=np.int32)[index_of_pair]
        table: NDArray[np.int32] = np.zeros(max(len(exchanges) * len(symbols), 1), dtype=np.int32)
        for pair in np.flatnonzero(np.bincount(pairs, minlength=1)).tolist():
            table[pair] = self._code(exchanges[pair // len(symbols)], symbols[pair % len(symbols)])
        codes: NDArray[np.int32] = table[pairs]
        return codes

    def _encode_names(self, batch: pa.RecordBatch, what: str) -> tuple[NDArray[np.int32], list[str | None]]:
        """Return column `what` (`exchange` or `symbol`) of a batch as codes and distinct names."""
        if what in self._fixed:
            return np.zeros(batch.num_rows, dtype=np.int32), [self._fixed[what]]
        column = batch[what]
        column = column if pt.is_dictionary(column.type) else column.dictionary_encode()
        if len(column.dictionary) > self.most_symbols:
            raise InputError(too_many_symbols(len(column.dictionary), self.most_symbols))
        codes, names = encode_labels(column)
        if codes.size and codes.min() < 0:
            raise InputError(f"column {what}: expected a name in every row, found null")
        return codes, names

    def _code(self, exchange: str | None, symbol: str | None) -> int:
        """Return the code of an instrument; a new instrument gets the next code."""
        if exchange is None or symbol is None:
            raise InputError("column exchange or symbol: expected a name in every row, found null")
        pair = (exchange, symbol)
        if pair not in self._codes:
            upper = exchange.upper() if exchange.isascii() else exchange
            if len(self.names) == self.most_symbols:
                raise InputError(too_many_symbols(len(self.names) + 1, self.most_symbols))
            self.names.append((valid_name(upper, "exchange"), canonical_symbol(symbol)))
            self._codes[pair] = len(self.names) - 1
        return self._codes[pair]
