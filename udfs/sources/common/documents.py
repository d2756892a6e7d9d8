"""Files in which a JSON message is not one line: arrays, messages printed over several lines or joined.

Such a file is turned into lines with one message each. Rows are then counted in messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.common.limits import MAX_LINE_BYTES

_ARRAY = re.compile(rb"\s*\[\s*(?=[\[{\]])")
_UNFINISHED = (b"{", b"[", b",", b":")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_BETWEEN = b" \t\r\n,"


def one_message_per_line(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield blocks of lines that hold one message each.

    Parameters
    ----------
    blocks : iterable of bytes
        Blocks of whole lines, from the start of the file.

    Yields
    ------
    bytes
        The same blocks, if the first line is one message or no JSON. Else blocks of new lines.

    Raises
    ------
    InputError
        If a message is longer than `MAX_LINE_BYTES`.
    """
    rest = iter(blocks)
    first = next(rest, b"")
    if is_by_lines(first):
        yield first
        yield from rest
        return
    array = _ARRAY.match(first)
    yield from _split_messages(chain([first[array.end() :] if array else first], rest), bool(array))


def is_by_lines(first: bytes) -> bool:
    """Return whether each line of a file is one message.

    Parameters
    ----------
    first : bytes
        The first block of lines.
    """
    if _ARRAY.match(first):
        return False
    text = first.lstrip()
    if not text.startswith(b"{"):
        return True
    line = text.partition(b"\n")[0].rstrip()
    if line.endswith(_UNFINISHED):
        return False
    end = _find_end(line)
    # A line that ends within a message is damaged; a line that goes on after a message has a second one.
    return end < 0 or not line[end:].strip(_BETWEEN).startswith((b"{", b"["))


def _find_end(text: bytes) -> int:
    """Return the position after the first message of a text; -1 if the message is not complete."""
    depth = 0
    for token in _TOKEN.finditer(text):
        mark = text[token.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return -1


def _split_messages(blocks: Iterable[bytes], in_array: bool) -> Iterator[bytes]:
    """Yield one block of new lines for each block; `in_array`: the messages are the items of an array.

    Blocks are whole lines, and JSON has no line end within a text, so no block ends within a text.
    """
    rest, depth, begin, scanned = b"", 0, 0, 0
    for block in blocks:
        rest += block
        lines = []
        for token in _TOKEN.finditer(rest, scanned):
            mark = rest[token.start()]
            scanned = token.end()
            if mark == ord('"'):
                continue
            depth += 1 if mark in b"{[" else -1
            if depth < 0 and in_array:  # the end of the array
                depth, in_array = 0, False
                lines.append(rest[begin : token.start()])
                begin = token.end()
            elif depth <= 0:
                lines.append(rest[begin : token.end()])
                depth, begin = 0, token.end()
        rest, scanned = rest[begin:], scanned - begin
        begin = 0
        if len(rest) > MAX_LINE_BYTES:
            size = MAX_LINE_BYTES >> 20
            raise InputError(f"a message is longer than {size} MiB. Remove the file from the input")
        yield _join(lines)
    yield _join([rest])


def _join(messages: list[bytes]) -> bytes:
    """Return messages as lines; the space and commas between messages are left out."""
    texts = (message.strip(_BETWEEN) for message in messages)
    return b"".join(_to_line(text) + b"\n" for text in texts if text)


def _to_line(message: bytes) -> bytes:
    """Return a message as one compact line; a message that is not JSON stays, without its line ends."""
    try:
        return msgspec.json.format(message, indent=-1)
    except msgspec.DecodeError:
        return message.replace(b"\r", b" ").replace(b"\n", b" ")
