"""Kernels that split the text of a CSV table into fields, and read integers, decimals and labels."""

from __future__ import annotations

import numpy as np

from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.decimal_text import scan_decimal

_ZERO, _NINE, _MINUS = ord("0"), ord("9"), ord("-")
_NEWLINE, _RETURN, _QUOTE = ord("\n"), ord("\r"), ord('"')


@kernel
def split_fields(buffer, separator, line_starts, line_ends, counts, starts, ends):
    """Find the fields of every line; cost: one pass over the bytes.

    Parameters
    ----------
    buffer : uint8[:]
        Whole lines, each with its newline.
    separator : uint8
        Byte between two fields.
    line_starts, line_ends : int64[n]
        Written: bounds of each line in the buffer, without the line end.
    counts : int64[n]
        Written: number of fields of each line; 0 for a blank line.
    starts, ends : int64[n, columns]
        Written: bounds of the first `columns` fields of each line, without quotes around a field.
    """
    columns = starts.shape[1]
    position = 0
    for row in range(len(counts)):
        start = position
        line_starts[row] = start
        count = 0
        while True:
            byte = buffer[position]
            if byte != separator and byte != _NEWLINE:
                position += 1
                continue
            end = position
            if byte == _NEWLINE and end > start and buffer[end - 1] == _RETURN:
                end -= 1
            if byte == _NEWLINE:
                line_ends[row] = end
            if count < columns:
                quoted = end - start >= 2 and buffer[start] == _QUOTE and buffer[end - 1] == _QUOTE
                starts[row, count] = start + 1 if quoted else start
                ends[row, count] = end - 1 if quoted else end
            count += 1
            position += 1
            start = position
            if byte == _NEWLINE:
                break
        counts[row] = 0 if line_ends[row] == line_starts[row] else count


@kernel
def read_integers(buffer, starts, ends, values, is_valid):
    """Read integers, `[-]digits`; cost: one pass over the fields.

    Parameters
    ----------
    buffer : uint8[:]
        The text of the table.
    starts, ends : int64[n]
        Bounds of the fields in the buffer.
    values : int64[n]
        Written: the integers; 0 where the field is not a valid integer.
    is_valid : bool[n]
        Written: whether the field is an integer that fits int64.
    """
    for row in range(len(values)):
        position, end = starts[row], ends[row]
        negative = position < end and buffer[position] == _MINUS
        if negative:
            position += 1
        fits = position < end
        value = 0
        while fits and position < end:
            digit = np.int64(buffer[position]) - _ZERO
            fits = 0 <= digit <= 9 and value <= (INT64_MAX - digit) // 10
            if fits:
                value = value * 10 + digit
            position += 1
        values[row] = (-value if negative else value) if fits else 0
        is_valid[row] = fits


@kernel
def read_decimals(buffer, starts, ends, scale, values, is_valid):
    """Read decimal numbers, `digits[.digits]`; cost: one pass over the fields.

    Parameters
    ----------
    buffer : uint8[:]
        The text of the table.
    starts, ends : int64[n]
        Bounds of the fields in the buffer.
    scale : int
        Decimal digits of the scaled values.
    values : int64[n]
        Written: each number times 10^scale; 0 where the field is not valid.
    is_valid : bool[n]
        Written: whether the field is a number and the scaled value is exact.
    """
    for row in range(len(values)):
        value, number_end = scan_decimal(buffer, starts[row], scale)
        is_valid[row] = number_end == ends[row]
        values[row] = value if is_valid[row] else 0


@kernel
def read_labels(buffer, starts, ends, codes, firsts):
    """Number the distinct texts of a column in order of appearance.

    The kernel returns the number of distinct texts, or -1 if there are more than `firsts` has room for. Cost:
    a text that equals the text of the previous row takes one comparison. Any other text takes one comparison
    with each earlier distinct text.

    Parameters
    ----------
    buffer : uint8[:]
        The text of the table.
    starts, ends : int64[n]
        Bounds of the texts in the buffer.
    codes : int64[n]
        Written: the number of each row's text, from 0.
    firsts : int64[:]
        Written: the first row of each distinct text. The array's length limits the number of texts.
    """
    count, last = 0, -1
    for row in range(len(codes)):
        start, end = starts[row], ends[row]
        code = -1
        if last >= 0 and _equal_texts(buffer, start, end, starts[firsts[last]], ends[firsts[last]]):
            code = last
        else:
            for candidate in range(count):
                if _equal_texts(buffer, start, end, starts[firsts[candidate]], ends[firsts[candidate]]):
                    code = candidate
                    break
        if code < 0:
            if count == len(firsts):
                return -1
            code = count
            firsts[count] = row
            count += 1
        codes[row] = last = code
    return count


@kernel
def _equal_texts(buffer, start, end, other_start, other_end):
    """Return whether two ranges of the buffer hold the same bytes."""
    if end - start != other_end - other_start:
        return False
    for offset in range(end - start):  # noqa: SIM110  (numba has no generator expressions here)
        if buffer[start + offset] != buffer[other_start + offset]:
            return False
    return True
