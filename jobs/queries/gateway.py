"""What stands between JDBC clients and Spark's Thrift server: statements that only read the warehouse pass.

Each statement is checked, and what the server gets is generated from its parsed form, as `deltabook sql` does
it. A client's settings of its session are left out. Messages are passed on whole, as they were understood.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from deltabook.jobs.queries.allowed import allowed_query
from deltabook.jobs.queries.query_tree import ForbiddenQueryError
from deltabook.jobs.queries.thrift_messages import (
    CALL,
    EXCEPTION,
    I32,
    MAP,
    REPLY,
    STRING,
    STRUCT,
    IncompleteError,
    Message,
    Value,
    read_message,
    write_message,
)

_PASSED = frozenset(
    (
        *("OpenSession", "CloseSession", "GetInfo", "GetTypeInfo", "GetCatalogs", "GetSchemas", "GetTables"),
        *("GetTableTypes", "GetColumns", "GetFunctions", "GetPrimaryKeys", "GetCrossReference"),
        *("GetOperationStatus", "CancelOperation", "CloseOperation", "GetResultSetMetadata", "FetchResults"),
        "ExecuteStatement",
    )
)
"""Functions of the server that a client may call."""
_COMPLETE, _CONTINUED = 5, 2  # states of the negotiation
_LARGEST_LOGIN, _LARGEST = 1 << 16, 1 << 24  # bytes of a client's message
_ERROR_STATUS, _UNKNOWN_METHOD = 3, 1
_ARGUMENT, _SUCCESS = 1, 0
_STATEMENT, _SETTINGS_OF_STATEMENT, _SETTINGS_OF_SESSION = 2, 3, 4
_NO_SETTINGS: Value = (MAP, (STRING, STRING, []))


@contextmanager
def gateway(host: str, port: int, server_port: int) -> Iterator[None]:
    """Listen for clients, in threads, until the block ends.

    Parameters
    ----------
    host, port : str, int
        Where to listen.
    server_port : int
        Where Spark's Thrift server listens on this machine.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client = self.request
            with socket.create_connection(("127.0.0.1", server_port)) as server:
                try:
                    _pass_on(client, server)
                except (OSError, EOFError, ValueError):  # it has left, or speaks something else
                    return

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server((host, port), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown()


def checked_call(message: Message) -> tuple[Message | None, Message | None]:
    """Decide what becomes of a client's message.

    Parameters
    ----------
    message : Message
        As received.

    Returns
    -------
    Message or None, Message or None
        What the server gets, or else what the client is answered.
    """
    if message.kind != CALL or message.name not in _PASSED:
        told = f"{message.name[:40]!r} is not allowed".encode()
        fields = {1: (STRING, told), 2: (I32, _UNKNOWN_METHOD)}
        return None, message._replace(kind=EXCEPTION, fields=fields)
    if message.name not in ("ExecuteStatement", "OpenSession"):
        return message, None
    kind, request = message.fields.get(_ARGUMENT, (0, None))
    if kind != STRUCT:
        raise ValueError("no request")
    if message.name == "OpenSession":
        request = request | {_SETTINGS_OF_SESSION: _NO_SETTINGS}
        return message._replace(fields={_ARGUMENT: (STRUCT, request)}), None
    kind, statement = request.get(_STATEMENT, (0, None))
    if kind != STRING:
        raise ValueError("no statement")
    try:
        text = allowed_query(statement.decode()).text
    except ForbiddenQueryError as error:
        status = {
            1: (I32, _ERROR_STATUS),
            3: (STRING, b"42000"),
            5: (STRING, str(error).encode()),
        }
        response = {1: (STRUCT, status)}
        return None, message._replace(kind=REPLY, fields={_SUCCESS: (STRUCT, response)})
    request = request | {_STATEMENT: (STRING, text.encode()), _SETTINGS_OF_STATEMENT: _NO_SETTINGS}
    return message._replace(fields={_ARGUMENT: (STRUCT, request)}), None


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    _negotiate(client, server)
    lock = threading.Lock()
    back = threading.Thread(target=_pass_back, args=(server, client, lock), daemon=True)
    back.start()
    received = b""
    while True:
        received += _frame(client, _LARGEST - len(received))
        try:
            message, size = read_message(received)
        except IncompleteError:
            continue
        received = received[size:]
        if received:
            raise ValueError("a message before the last was answered")
        passed, answer = checked_call(message)
        if passed:
            server.sendall(_framed(write_message(passed)))
        if answer:
            with lock:
                client.sendall(_framed(write_message(answer)))


def _negotiate(client: socket.socket, server: socket.socket) -> None:
    """Pass the messages on by which both agree on how a client says who it is: anybody may be anyone."""
    _state(client, server)
    while True:
        _state(client, server)
        state = _state(server, client)
        if state == _COMPLETE:
            return
        if state != _CONTINUED:
            raise EOFError


def _state(source: socket.socket, target: socket.socket) -> int:
    head = _received(source, 5)
    state, size = struct.unpack(">bI", head)
    if size > _LARGEST_LOGIN:
        raise ValueError("too long")
    target.sendall(head + _received(source, size))
    return int(state)


def _pass_back(server: socket.socket, client: socket.socket, lock: threading.Lock) -> None:
    try:
        while True:
            frame = _frame(server, 1 << 31)
            with lock:
                client.sendall(_framed(frame))
    except (OSError, EOFError, ValueError):
        for one in (server, client):  # ends the other direction too
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def _frame(source: socket.socket, largest: int) -> bytes:
    (size,) = struct.unpack(">I", _received(source, 4))
    if size > largest:
        raise ValueError("too long")
    return _received(source, size)


def _framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _received(source: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        if not (part := source.recv(min(size - len(found), 1 << 16))):
            raise EOFError
        found += part
    return bytes(found)
