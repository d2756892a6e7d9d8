"""Reads the columns of a CSV table into arrays; kernels do this without a Python loop over the rows.

Slower Python code reads the rows that the kernels cannot read, and explains what is wrong with a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, exact
from deltabook.udfs.sources.common.message_fields import excerpt
from deltabook.udfs.sources.csv.fields import read_decimals, read_integers, read_labels, split_fields

MAX_LABELS = 256
"""Largest number of distinct texts that the kernel encodes in a column of a block.

Python code encodes a column with more texts.
"""


class TextRows:
    """A block of lines, split into fields.

    Parameters
    ----------
    block : bytes
        Whole lines; the last line may lack its newline. A field may be quoted, but a field must not contain a
        separator or a newline.
    columns : int
        Number of columns of the table.

    Attributes
    ----------
    counts : int64[n]
        Number of fields of each line; 0 for a blank line.
    whole : bool[n]
        Whether each line has exactly one field per column.
    """

    def __init__(self, block: bytes, columns: int):
        self.block = block if block.endswith(b"\n") or not block else block + b"\n"
        self.buffer = np.frombuffer(self.block, dtype=np.uint8)
        count = self.block.count(b"\n")
        self.line_starts, self.line_ends, self.counts = (np.zeros(count, np.int64) for _ in range(3))
        # Each column is contiguous in memory, because it is read on its own.
        starts, ends = (np.zeros((columns, count), np.int64).T for _ in range(2))
        split_fields(self.buffer, ord(","), self.line_starts, self.line_ends, self.counts, starts, ends)
        self.starts, self.ends = starts, ends
        self.whole = self.counts == columns

    def __len__(self) -> int:
        return len(self.counts)

    def line(self, row: int) -> bytes:
        """Return the bytes of a line without its line end."""
        return self.block[self.line_starts[row] : self.line_ends[row]]

    def text(self, row: int, column: int) -> str:
        """Return the text of a field."""
        return self.block[self.starts[row, column] : self.ends[row, column]].decode("utf-8", "replace")

    def empty(self, column: int) -> NDArray[np.bool_]:
        """Return whether each field of a column is empty, bool[n]."""
        is_empty: NDArray[np.bool_] = self.starts[:, column] == self.ends[:, column]
        return is_empty

    def integers(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the integers of a column, int64[n], and whether each field is an int64 integer, bool[n]."""
        values, is_valid = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        read_integers(self.buffer, self.starts[:, column], self.ends[:, column], values, is_valid)
        return values, is_valid & self.whole

    def decimals(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the numbers of a column times 10^`DEFAULT_SCALE`, and whether each result is exact.

        Returns
        -------
        (values, is_valid) : (int64[n], bool[n])
            The scaled numbers, and whether each field of a complete line is a number that the scale holds.
            A value that is not valid has no meaning.
        """
        values, is_valid = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        bounds = self.starts[:, column], self.ends[:, column]
        read_decimals(self.buffer, *bounds, DEFAULT_SCALE, values, is_valid)
        return values, is_valid & self.whole

    def labels(self, first: int, last: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Encode the distinct texts of one column, or of adjacent columns joined into one text, as codes.

        Parameters
        ----------
        first : int
            Index of the column, or of the first of several adjacent columns.
        last : int or None
            Index of the last of these columns; None for one column.

        Returns
        -------
        (codes, rows) : (int64[n], int64[:])
            The code of each line's text, and the first row that has the text of each code.
        """
        starts, ends = self.starts[:, first], self.ends[:, first if last is None else last]
        codes, firsts = np.zeros(len(self), np.int64), np.zeros(MAX_LABELS, np.int64)
        count = read_labels(self.buffer, starts, ends, codes, firsts)
        if count >= 0:
            return codes, firsts[:count]
        numbers: dict[bytes, int] = {}
        for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            codes[row] = numbers.setdefault(self.block[start:end], len(numbers))
        return codes, np.unique(codes, return_index=True)[1]


@dataclass(frozen=True)
class TableSchema:
    """Columns of a table, with the valid values of each column.

    Attributes
    ----------
    names : tuple of str
        All columns, in order.
    instrument : tuple of str
        Columns that name the instrument; these columns are adjacent.
    least : dict
        {column of integers: smallest valid value}.
    choices : dict
        {column of labels: all valid labels}.
    decimals : tuple of str
        Columns of decimal numbers.
    optional : frozenset of str
        Columns of decimal numbers that may be empty.
    positive : frozenset of str
        Columns of decimal numbers that must be above 0: prices of levels.
    rising : tuple of (str, str)
        Pairs of integer columns: in each row, the first value must not be above the second value.
    """

    names: tuple[str, ...]
    instrument: tuple[str, ...]
    least: dict[str, int]
    choices: Mapping[str, tuple[str, ...]]
    decimals: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    positive: frozenset[str] = frozenset()
    rising: tuple[tuple[str, str], ...] = ()


class Columns:
    """The rows of a block as one array per column.

    Parameters
    ----------
    rows : TextRows
        The text of the block.
    schema : TableSchema
        Columns of the table.
    name_instrument : callable
        Maps the texts of `schema.instrument` to (exchange, symbol); raises InputError for an invalid name.

    Attributes
    ----------
    values : dict of int64[n]
        {column: values}, for all columns except the instrument's. A value is an integer, the index of a label
        in `choices`, or a number times 10^`DEFAULT_SCALE`; -1 where the kernels could not read the field.
    valid : dict of bool[n]
        {column: whether the kernels could read each field}. An empty field of an optional column counts as
        read.
    instruments : list of (exchange, symbol) or None
        Distinct instruments, in the order of their codes; None for an invalid name.
    instrument_codes : int64[n]
        Index of each row's instrument in `instruments`.
    has_instrument : bool[n]
        Whether the row has all columns and a valid instrument.
    read_by_kernel : bool[n]
        Whether the kernels could read the whole row.
    """

    def __init__(self, rows: TextRows, schema: TableSchema, name_instrument: Callable[..., tuple[str, str]]):
        self.rows, self.schema, self._name_instrument = rows, schema, name_instrument
        self.index_of = {name: index for index, name in enumerate(schema.names)}
        self.values: dict[str, NDArray[np.int64]] = {}
        self.valid: dict[str, NDArray[np.bool_]] = {}
        for name, least in schema.least.items():
            values, is_valid = rows.integers(self.index_of[name])
            self._set(name, values, is_valid & (values >= least))
        for low, high in schema.rising:
            self._set(high, self.values[high], self.valid[high] & (self.values[low] <= self.values[high]))
        for name, choices in schema.choices.items():
            label_codes, first_rows = rows.labels(self.index_of[name])
            texts = [rows.text(row, self.index_of[name]) for row in first_rows.tolist()]
            choice_codes = np.array(
                [choices.index(text) if text in choices else -1 for text in texts] or [-1]
            )
            values = choice_codes[label_codes]
            self._set(name, values, rows.whole & (values >= 0))
        for name in schema.decimals:
            values, is_valid = rows.decimals(self.index_of[name])
            if name in schema.positive:
                is_valid &= values > 0
            if name in schema.optional:
                is_valid |= rows.empty(self.index_of[name]) & rows.whole
            self._set(name, values, is_valid)
        indices = [self.index_of[name] for name in schema.instrument]
        name_codes, first_rows = rows.labels(indices[0], indices[-1])
        books: dict[tuple[str, str] | None, int] = {}
        codes = np.array(
            [books.setdefault(self.instrument(row), len(books)) for row in first_rows.tolist()] or [0]
        )
        self.instruments, self.instrument_codes = list(books), codes[name_codes]
        accepted = np.array([book is not None for book in self.instruments] or [False])
        self.has_instrument = rows.whole & accepted[self.instrument_codes]
        self.read_by_kernel = np.logical_and.reduce([self.has_instrument, *self.valid.values()])

    def _set(self, name: str, values: NDArray[np.int64], is_valid: NDArray[np.bool_]) -> None:
        """Store the values of a column; replace invalid values by -1."""
        self.values[name], self.valid[name] = np.where(is_valid, values, NOT_GIVEN), is_valid

    def text(self, row: int, name: str) -> str:
        """Return the text of a field."""
        return self.rows.text(row, self.index_of[name])

    def instrument(self, row: int) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of a row; None if the row has no name or an invalid name."""
        if self.rows.counts[row] < 1 + max(self.index_of[name] for name in self.schema.instrument):
            return None
        try:
            return self._name_instrument(*(self.text(row, name) for name in self.schema.instrument))
        except InputError:
            return None

    def strict_rows(self, end: int) -> list[int]:
        """Return the non-blank rows before row `end` that the kernels could not read."""
        rows: list[int] = np.flatnonzero(~self.read_by_kernel[:end] & (self.rows.counts[:end] > 0)).tolist()
        return rows

    def explain_fault(self, row: int) -> str:
        """Return why a row cannot be read; an empty text if Python can read the row."""
        count, expected = int(self.rows.counts[row]), len(self.schema.names)
        if count != expected:
            return f"expected {expected} columns, found {count}"
        try:
            self._name_instrument(*(self.text(row, name) for name in self.schema.instrument))
            for name in (name for name, is_valid in self.valid.items() if not is_valid[row]):
                self._check_field(row, name)
        except (ValueError, InputError) as error:
            return str(error)
        return ""

    def _check_field(self, row: int, name: str) -> None:
        """Raise ValueError if a field that the kernels could not read is invalid."""
        text = self.text(row, name)
        for low in (low for low, high in self.schema.rising if high == name):
            if self.valid[low][row] and text.isdecimal():
                raise ValueError(f"{low} {self.text(row, low)} is above {name} {excerpt(text)}")
        if name in self.schema.least:
            least = self.schema.least[name]
            raise ValueError(f"field {name}: expected an integer of at least {least}, found {excerpt(text)}")
        if name in self.schema.choices:
            choices = ", ".join(self.schema.choices[name])
            raise ValueError(f"field {name}: expected one of {choices}, found {excerpt(text)}")
        number, _ = exact(text, name)
        if number == 0 and name in self.schema.positive:
            raise ValueError(f"field {name}: a level has price 0")
