"""Kernels over the text of a table: lines to fields, fields to integers, decimals and labels."""

from __future__ import annotations

import numpy as np

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.decimal_text import INT64_MAX, scan_decimal

_ZERO, _NINE, _MINUS = ord("0"), ord("9"), ord("-")
_NEWLINE, _RETURN, _QUOTE = ord("\n"), ord("\r"), ord('"')
_MOST = INT64_MAX


@kernel
def split_fields(buffer, separator, line_starts, line_ends, counts, starts, ends):
    """Find the fields of every line; cost: one pass over the bytes.

    Parameters
    ----------
    buffer : uint8[:]
        Whole lines, the last with its newline.
    separator : uint8
        What stands between fields.
    line_starts, line_ends : int64[n]
        Written: the line without its line end.
    counts : int64[n]
        Written: fields of the line; 0 if it is blank.
    starts, ends : int64[n, columns]
        Written: bounds of the first fields, without the quotes around them.
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
def read_integers(buffer, starts, ends, values, taken):
    """Read `[-]digits`; where the text is no such number, or does not fit int64, `taken` is False."""
    for row in range(len(values)):
        position, end = starts[row], ends[row]
        negative = position < end and buffer[position] == _MINUS
        if negative:
            position += 1
        fits = position < end
        value = 0
        while fits and position < end:
            digit = np.int64(buffer[position]) - _ZERO
            fits = 0 <= digit <= 9 and value <= (_MOST - digit) // 10
            if fits:
                value = value * 10 + digit
            position += 1
        values[row] = (-value if negative else value) if fits else 0
        taken[row] = fits


@kernel
def read_decimals(buffer, starts, ends, scale, values, taken):
    """Read `digits[.digits]` times 10^scale; where that is not exact, `taken` is False."""
    for row in range(len(values)):
        value, behind = scan_decimal(buffer, starts[row], scale)
        taken[row] = behind == ends[row]
        values[row] = value if taken[row] else 0


@kernel
def read_labels(buffer, starts, ends, codes, firsts):
    """Number the texts of a column by first appearance; return their count, or -1 if they are too many.

    Parameters
    ----------
    buffer : uint8[:]
        The text.
    starts, ends : int64[n]
        Bounds of the texts.
    codes : int64[n]
        Written: the number of each.
    firsts : int64[:]
        Written: the row of each number's first appearance; as long as texts are counted.
    """
    count, last = 0, -1
    for row in range(len(codes)):
        start, end = starts[row], ends[row]
        code = -1
        if last >= 0 and _same(buffer, start, end, starts[firsts[last]], ends[firsts[last]]):
            code = last
        else:
            for candidate in range(count):
                if _same(buffer, start, end, starts[firsts[candidate]], ends[firsts[candidate]]):
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
def _same(buffer, start, end, other_start, other_end):
    if end - start != other_end - other_start:
        return False
    for offset in range(end - start):  # noqa: SIM110  (numba has no generator expressions here)
        if buffer[start + offset] != buffer[other_start + offset]:
            return False
    return True
