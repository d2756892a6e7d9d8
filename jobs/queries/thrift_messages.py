"""Messages of Thrift's binary protocol, as JDBC clients send them: read whole, and written again.

A value is a pair of its type and its content: a number, bytes, a struct as a dict of values by their ids, or
a container with the types of what it holds.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

CALL, REPLY, EXCEPTION = 1, 2, 3
_VERSION, _VERSION_MASK = 0x80010000, 0xFFFF0000
_STOP, _BOOL, _BYTE, _DOUBLE, _I16, I32, _I64, STRING, STRUCT, MAP, _SET, _LIST = (
    *(0, 2, 3, 4, 6, 8, 10),
    *(11, 12, 13, 14, 15),
)
_NUMBERS = {_BOOL: ">b", _BYTE: ">b", _DOUBLE: ">d", _I16: ">h", I32: ">i", _I64: ">q"}
_DEEPEST = 32

Value = tuple[int, Any]


class IncompleteError(Exception):
    """The bytes end before the message does."""


class Message(NamedTuple):
    """A call of a function, or what it returns.

    Attributes
    ----------
    name : str
        Of the function.
    kind : int
        CALL, REPLY or EXCEPTION.
    sequence : int
        Number that the reply repeats.
    fields : dict of int to Value
        Arguments, or result.
    """

    name: str
    kind: int
    sequence: int
    fields: dict[int, Value]


class _Reader:
    """Cuts values from bytes."""

    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(f"a size of {size}")
        if self.place + size > len(self.data):
            raise IncompleteError
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, kind: int) -> Any:
        form = _NUMBERS[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> bytes:
        return self.take(self.number(I32))

    def fields(self, depth: int) -> dict[int, Value]:
        found: dict[int, Value] = {}
        while kind := self.number(_BYTE):
            identifier = self.number(_I16)
            found[identifier] = (kind, self.value(kind, depth))
        return found

    def value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        if kind in _NUMBERS:
            return self.number(kind)
        if kind == STRING:
            return self.text()
        if kind == STRUCT:
            return self.fields(depth + 1)
        if kind in (_SET, _LIST):
            of, count = self.number(_BYTE), self.number(I32)
            return of, [self.value(of, depth + 1) for _ in range(count)]
        if kind == MAP:
            key, of, count = self.number(_BYTE), self.number(_BYTE), self.number(I32)
            return key, of, [(self.value(key, depth + 1), self.value(of, depth + 1)) for _ in range(count)]
        raise ValueError(f"type {kind}")


def read_message(data: bytes) -> tuple[Message, int]:
    """Read a message from the beginning of some bytes.

    Parameters
    ----------
    data : bytes
        What was received.

    Returns
    -------
    Message, int
        It, and how many bytes it has.

    Raises
    ------
    IncompleteError
        If it has not been received whole.
    ValueError
        If it is no message.
    """
    reader = _Reader(data)
    head = reader.number(I32) & 0xFFFFFFFF
    if head & _VERSION_MASK != _VERSION:
        raise ValueError("not the binary protocol")
    name = reader.text().decode()
    sequence = reader.number(I32)
    return Message(name, head & 0xFF, sequence, reader.fields(0)), reader.place


def write_message(message: Message) -> bytes:
    """Write a message as bytes.

    Parameters
    ----------
    message : Message
        What to write.
    """
    head = struct.pack(">I", _VERSION | message.kind) + _written(STRING, message.name.encode())
    return head + struct.pack(">i", message.sequence) + _written(STRUCT, message.fields)


def _written(kind: int, value: Any) -> bytes:
    if kind in _NUMBERS:
        return struct.pack(_NUMBERS[kind], value)
    if kind == STRING:
        content: bytes = value
        return struct.pack(">i", len(content)) + content
    if kind == STRUCT:
        fields = (struct.pack(">bh", one[0], number) + _written(*one) for number, one in value.items())
        return b"".join(fields) + b"\0"
    if kind == MAP:
        key, of, items = value
        pairs = (_written(key, left) + _written(of, right) for left, right in items)
        return struct.pack(">bbi", key, of, len(items)) + b"".join(pairs)
    of, items = value
    return struct.pack(">bi", of, len(items)) + b"".join(_written(of, one) for one in items)
