"""Text of a CSV table as columns: lines to fields, fields to numbers, without a Python step per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, exact
from deltabook.udfs.sources.common.message_files import shown
from deltabook.udfs.sources.csv.fields import read_decimals, read_integers, read_labels, split_fields

MOST_LABELS = 256
"""Distinct texts of one column in one block that the kernel tells apart; more take a slower way."""


class Rows:
    """A block of lines, split into fields.

    Parameters
    ----------
    block : bytes
        Whole lines; the last may lack its newline. A field may stand in quotes; no field of these
        tables can hold a separator.
    columns : int
        Fields that a line has to have.

    Attributes
    ----------
    counts : int64[n]
        Fields found in each line; 0: it is blank.
    whole : bool[n]
        Whether the line has as many fields as it has to have.
    """

    def __init__(self, block: bytes, columns: int):
        self.block = block if block.endswith(b"\n") or not block else block + b"\n"
        self.buffer = np.frombuffer(self.block, dtype=np.uint8)
        count = self.block.count(b"\n")
        self.line_starts, self.line_ends, self.counts = (np.zeros(count, np.int64) for _ in range(3))
        # One row of memory per column: every column is read on its own.
        starts, ends = (np.zeros((columns, count), np.int64).T for _ in range(2))
        split_fields(self.buffer, ord(","), self.line_starts, self.line_ends, self.counts, starts, ends)
        self.starts, self.ends = starts, ends
        self.whole = self.counts == columns

    def __len__(self) -> int:
        return len(self.counts)

    def line(self, row: int) -> bytes:
        """Return a line's bytes, without its line end."""
        return self.block[self.line_starts[row] : self.line_ends[row]]

    def text(self, row: int, column: int) -> str:
        """Return a field's text."""
        return self.block[self.starts[row, column] : self.ends[row, column]].decode("utf-8", "replace")

    def empty(self, column: int) -> NDArray[np.bool_]:
        """Return where a column's field has no text."""
        missing: NDArray[np.bool_] = self.starts[:, column] == self.ends[:, column]
        return missing

    def integers(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return a column's integers, and where they are integers that fit int64."""
        values, taken = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        read_integers(self.buffer, self.starts[:, column], self.ends[:, column], values, taken)
        return values, taken & self.whole

    def decimals(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return a column's numbers at `DEFAULT_SCALE`, and where that is exact and plainly printed."""
        values, taken = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        bounds = self.starts[:, column], self.ends[:, column]
        read_decimals(self.buffer, *bounds, DEFAULT_SCALE, values, taken)
        return values, taken & self.whole

    def labels(self, first: int, last: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number the texts of a column, or of several together.

        Parameters
        ----------
        first : int
            The column, or the first of several.
        last : int
            The last of several.

        Returns
        -------
        (codes, rows) : (int64[n], int64[:])
            The number of each line's text, and a row for each number that has it.
        """
        starts, ends = self.starts[:, first], self.ends[:, first if last is None else last]
        codes, firsts = np.zeros(len(self), np.int64), np.zeros(MOST_LABELS, np.int64)
        count = read_labels(self.buffer, starts, ends, codes, firsts)
        if count >= 0:
            return codes, firsts[:count]
        numbers: dict[bytes, int] = {}
        for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            codes[row] = numbers.setdefault(self.block[start:end], len(numbers))
        return codes, np.unique(codes, return_index=True)[1]


@dataclass(frozen=True)
class Shape:
    """The columns of a table, and what each has to hold.

    Attributes
    ----------
    names : tuple of str
        Every column, in order.
    instrument : tuple of str
        The columns that name it; they stand side by side.
    least : dict
        Least value of each column of integers.
    choices : dict
        What each column of labels may say.
    decimals : tuple of str
        Columns of numbers.
    optional : frozenset of str
        Columns of numbers that may be empty.
    positive : frozenset of str
        Columns of numbers that must be above 0: prices of levels.
    rising : tuple of (str, str)
        Pairs of columns of integers of which the first is not above the second.
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
    """A block's rows as arrays.

    Parameters
    ----------
    rows : Rows
        The text.
    shape : Shape
        What its columns hold.
    named : callable
        From the texts of `shape.instrument` to (exchange, symbol); raises InputError for no name.

    Attributes
    ----------
    values : dict of int64[n]
        Of each column but the instrument: integers, the index of a choice, numbers at `DEFAULT_SCALE`;
        -1 where the text is none, or not plainly printed.
    taken : dict of bool[n]
        Where the value is the text's. An empty number that may be empty counts as taken.
    books : list of (exchange, symbol) or None
        By the code in `book`, each once, however it is spelled; None for a name that is refused.
    book : int64[n]
        Code of the row's instrument.
    named : bool[n]
        Whether the row has all its columns and a name that is not refused.
    plain : bool[n]
        Whether the row is readable as it stands here.
    """

    def __init__(self, rows: Rows, shape: Shape, named: Callable[..., tuple[str, str]]):
        self.rows, self.shape, self._named = rows, shape, named
        self.place = {name: place for place, name in enumerate(shape.names)}
        self.values: dict[str, NDArray[np.int64]] = {}
        self.taken: dict[str, NDArray[np.bool_]] = {}
        for name, least in shape.least.items():
            values, taken = rows.integers(self.place[name])
            self._set(name, values, taken & (values >= least))
        for low, high in shape.rising:
            self._set(high, self.values[high], self.taken[high] & (self.values[low] <= self.values[high]))
        for name, choices in shape.choices.items():
            codes, firsts = rows.labels(self.place[name])
            texts = [rows.text(row, self.place[name]) for row in firsts.tolist()]
            numbers = np.array([choices.index(text) if text in choices else -1 for text in texts] or [-1])
            self._set(name, numbers[codes], rows.whole & (numbers[codes] >= 0))
        for name in shape.decimals:
            values, taken = rows.decimals(self.place[name])
            if name in shape.positive:
                taken &= values > 0
            if name in shape.optional:
                taken |= rows.empty(self.place[name]) & rows.whole
            self._set(name, values, taken)
        places = [self.place[name] for name in shape.instrument]
        spellings, firsts = rows.labels(places[0], places[-1])
        books: dict[tuple[str, str] | None, int] = {}
        numbers = np.array(
            [books.setdefault(self.instrument(row), len(books)) for row in firsts.tolist()] or [0]
        )
        self.books, self.book = list(books), numbers[spellings]
        accepted = np.array([book is not None for book in self.books] or [False])
        self.named = rows.whole & accepted[self.book]
        self.plain = np.logical_and.reduce([self.named, *self.taken.values()])

    def _set(self, name: str, values: NDArray[np.int64], taken: NDArray[np.bool_]) -> None:
        self.values[name], self.taken[name] = np.where(taken, values, NOT_GIVEN), taken

    def text(self, row: int, name: str) -> str:
        """Return a field's text."""
        return self.rows.text(row, self.place[name])

    def instrument(self, row: int) -> tuple[str, str] | None:
        """Return a row's (exchange, symbol), or None if it has no name, or one that is refused."""
        if self.rows.counts[row] < 1 + max(self.place[name] for name in self.shape.instrument):
            return None
        try:
            return self._named(*(self.text(row, name) for name in self.shape.instrument))
        except InputError:
            return None

    def unusual(self, end: int) -> list[int]:
        """Return the rows before `end` that are neither blank nor plain: few."""
        found: list[int] = np.flatnonzero(~self.plain[:end] & (self.rows.counts[:end] > 0)).tolist()
        return found

    def fault(self, row: int) -> str:
        """Say why a row is not readable; empty if it is, by the strict way."""
        found, expected = int(self.rows.counts[row]), len(self.shape.names)
        if found != expected:
            return f"expected {expected} columns, found {found}"
        try:
            self._named(*(self.text(row, name) for name in self.shape.instrument))
            for name in (name for name, taken in self.taken.items() if not taken[row]):
                self._strict(row, name)
        except (ValueError, InputError) as error:
            return str(error)
        return ""

    def _strict(self, row: int, name: str) -> None:
        text = self.text(row, name)
        for low in (low for low, high in self.shape.rising if high == name):
            if self.taken[low][row] and text.isdecimal():
                raise ValueError(f"{low} {self.text(row, low)} is above {name} {shown(text)}")
        if name in self.shape.least:
            least = self.shape.least[name]
            raise ValueError(f"field {name}: expected an integer from {least}, found {shown(text)}")
        if name in self.shape.choices:
            choices = ", ".join(self.shape.choices[name])
            raise ValueError(f"field {name}: expected one of {choices}, found {shown(text)}")
        number, _ = exact(text, name)
        if number == 0 and name in self.shape.positive:
            raise ValueError(f"field {name}: a level has price 0")
