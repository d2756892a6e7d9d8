"""Messages of Thrift's binary protocol: read messages from bytes, and write messages as bytes."""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias, cast

CALL, REPLY, EXCEPTION = 1, 2, 3
_VERSION, _VERSION_MASK = 0x80010000, 0xFFFF0000
_STOP, _BOOL, _BYTE, _DOUBLE, _I16, I32, _I64, STRING, STRUCT, MAP, _SET, _LIST = (
    *(0, 2, 3, 4, 6, 8, 10),
    *(11, 12, 13, 14, 15),
)
_NUMBERS = {_BOOL: ">b", _BYTE: ">b", _DOUBLE: ">d", _I16: ">h", I32: ">i", _I64: ">q"}
_DEEPEST = 32

Elements: TypeAlias = "tuple[int, list[Content]]"
"""Content of a list or set: the type of the elements, and the elements."""
Pairs: TypeAlias = "tuple[int, int, list[tuple[Content, Content]]]"
"""Content of a map: the type of the keys, the type of the items, and pairs (key, item)."""
Content: TypeAlias = "int | float | bytes | dict[int, Value] | Elements | Pairs"
"""A number, a text as bytes, a dict that maps field ids to the fields of a struct, or the content of a list,
set or map."""
Value: TypeAlias = "tuple[int, Content]"
"""The type of a value, such as `STRING`, and its content."""


class IncompleteError(Exception):
    """Raised if the bytes end before the end of the message."""


class Message(NamedTuple):
    """A function call, or the reply to a call.

    Attributes
    ----------
    name : str
        Name of the function.
    kind : int
        `CALL`, `REPLY` or `EXCEPTION`.
    sequence : int
        Number of the call. A reply has the number of the call that it answers.
    fields : dict of int to Value
        Maps field ids to the arguments of the call, or to the results of the reply.
    """

    name: str
    kind: int
    sequence: int
    fields: dict[int, Value]


class _Reader:
    """Reads values from bytes."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 0

    def take(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(f"a size of {size}")
        if self.position + size > len(self.data):
            raise IncompleteError
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, kind: int) -> int | float:
        form = _NUMBERS[kind]
        number: int | float = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return number

    def integer(self, kind: int) -> int:
        return cast(int, self.number(kind))

    def text(self) -> bytes:
        return self.take(self.integer(I32))

    def fields(self, depth: int) -> dict[int, Value]:
        values: dict[int, Value] = {}
        while kind := self.integer(_BYTE):
            identifier = self.integer(_I16)
            values[identifier] = (kind, self.value(kind, depth))
        return values

    def value(self, kind: int, depth: int) -> Content:
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        if kind in _NUMBERS:
            return self.number(kind)
        if kind == STRING:
            return self.text()
        if kind == STRUCT:
            return self.fields(depth + 1)
        if kind in (_SET, _LIST):
            element, count = self.integer(_BYTE), self.integer(I32)
            return element, [self.value(element, depth + 1) for _ in range(count)]
        if kind == MAP:
            key, item, count = self.integer(_BYTE), self.integer(_BYTE), self.integer(I32)
            pairs = [(self.value(key, depth + 1), self.value(item, depth + 1)) for _ in range(count)]
            return key, item, pairs
        raise ValueError(f"type {kind}")


def read_message(data: bytes) -> tuple[Message, int]:
    """Return the message at the start of some bytes, and the length of the message in bytes.

    Parameters
    ----------
    data : bytes
        The received bytes. More bytes may follow after the message.

    Returns
    -------
    (Message, int)
        The message, and its length in bytes.

    Raises
    ------
    IncompleteError
        If the bytes end before the end of the message.
    ValueError
        If the bytes are not a message of Thrift's binary protocol.
    """
    reader = _Reader(data)
    head = reader.integer(I32) & 0xFFFFFFFF
    if head & _VERSION_MASK != _VERSION:
        raise ValueError("not the binary protocol")
    name = reader.text().decode()
    sequence = reader.integer(I32)
    return Message(name, head & 0xFF, sequence, reader.fields(0)), reader.position


def write_message(message: Message) -> bytes:
    """Return the bytes of a message in Thrift's binary protocol.

    Parameters
    ----------
    message : Message
        Message to write.
    """
    head = struct.pack(">I", _VERSION | message.kind) + _write_value(STRING, message.name.encode())
    return head + struct.pack(">i", message.sequence) + _write_value(STRUCT, message.fields)


def _write_value(kind: int, content: Content) -> bytes:
    """Return the bytes of a value, given by its type and its content."""
    if kind in _NUMBERS:
        return struct.pack(_NUMBERS[kind], content)
    if kind == STRING:
        text = cast(bytes, content)
        return struct.pack(">i", len(text)) + text
    if kind == STRUCT:
        values = cast(dict[int, Value], content)
        fields = (
            struct.pack(">bh", field[0], number) + _write_value(*field) for number, field in values.items()
        )
        return b"".join(fields) + b"\0"
    if kind == MAP:
        key, item, items = cast(Pairs, content)
        pairs = (_write_value(key, left) + _write_value(item, right) for left, right in items)
        return struct.pack(">bbi", key, item, len(items)) + b"".join(pairs)
    element, parts = cast(Elements, content)
    elements = b"".join(_write_value(element, part) for part in parts)
    return struct.pack(">bi", element, len(parts)) + elements
