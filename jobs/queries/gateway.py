"""Gateway between JDBC clients and Spark's Thrift server, which forwards only statements that read.

The gateway checks each statement as `deltabook sql` does. The server receives SQL that is generated from the
parsed statement, not the typed text. The gateway removes the session settings that a client sends, and reads
a whole message before it forwards the message.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from deltabook.jobs.queries.allowed import check_statement
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

_ALLOWED_CALLS = frozenset(
    (
        *("OpenSession", "CloseSession", "GetInfo", "GetTypeInfo", "GetCatalogs", "GetSchemas", "GetTables"),
        *("GetTableTypes", "GetColumns", "GetFunctions", "GetPrimaryKeys", "GetCrossReference"),
        *("GetOperationStatus", "CancelOperation", "CloseOperation", "GetResultSetMetadata", "FetchResults"),
        "ExecuteStatement",
    )
)
"""Functions of the Thrift server that clients may call."""
_COMPLETE, _CONTINUED = 5, 2  # states of the SASL login
_LARGEST_LOGIN, _LARGEST = 1 << 16, 1 << 24  # bytes of a message from a client
_ERROR_STATUS, _UNKNOWN_METHOD = 3, 1
_ARGUMENT, _SUCCESS = 1, 0
_STATEMENT, _SETTINGS_OF_STATEMENT, _SETTINGS_OF_SESSION = 2, 3, 4
_NO_SETTINGS: Value = (MAP, (STRING, STRING, []))


@contextmanager
def run_gateway(host: str, port: int, server_port: int) -> Iterator[None]:
    """Accept and serve clients until the block ends. Each client has its own thread.

    Parameters
    ----------
    host, port : str, int
        Address to which clients connect.
    server_port : int
        Port of Spark's Thrift server on this machine.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client = self.request
            with socket.create_connection(("127.0.0.1", server_port)) as server:
                try:
                    _serve_client(client, server)
                except (OSError, EOFError, ValueError):  # the client disconnected, or does not speak Thrift
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


def check_call(message: Message) -> tuple[Message | None, Message | None]:
    """Check a message of a client: return the message to forward, or the answer that refuses the message.

    Parameters
    ----------
    message : Message
        Message of the client.

    Returns
    -------
    (Message or None, Message or None)
        The message to forward, and the answer to the client. Exactly one of the two is None.
    """
    if message.kind != CALL or message.name not in _ALLOWED_CALLS:
        reason = f"{message.name[:40]!r} is not allowed".encode()
        fields: dict[int, Value] = {1: (STRING, reason), 2: (I32, _UNKNOWN_METHOD)}
        return None, message._replace(kind=EXCEPTION, fields=fields)
    if message.name not in ("ExecuteStatement", "OpenSession"):
        return message, None
    kind, request = message.fields.get(_ARGUMENT, (0, None))
    if kind != STRUCT or not isinstance(request, dict):
        raise ValueError("no request")
    if message.name == "OpenSession":
        request = request | {_SETTINGS_OF_SESSION: _NO_SETTINGS}
        return message._replace(fields={_ARGUMENT: (STRUCT, request)}), None
    kind, statement = request.get(_STATEMENT, (0, None))
    if kind != STRING or not isinstance(statement, bytes):
        raise ValueError("no statement")
    try:
        text = check_statement(statement.decode()).text
    except ForbiddenQueryError as error:
        status: dict[int, Value] = {
            1: (I32, _ERROR_STATUS),
            3: (STRING, b"42000"),
            5: (STRING, str(error).encode()),
        }
        response: dict[int, Value] = {1: (STRUCT, status)}
        return None, message._replace(kind=REPLY, fields={_SUCCESS: (STRUCT, response)})
    request = request | {_STATEMENT: (STRING, text.encode()), _SETTINGS_OF_STATEMENT: _NO_SETTINGS}
    return message._replace(fields={_ARGUMENT: (STRUCT, request)}), None


def _serve_client(client: socket.socket, server: socket.socket) -> None:
    """Forward checked messages to the server and replies to the client, until one side disconnects."""
    _forward_login(client, server)
    lock = threading.Lock()
    back = threading.Thread(target=_forward_replies, args=(server, client, lock), daemon=True)
    back.start()
    received = b""
    while True:
        received += _read_frame(client, _LARGEST - len(received))
        try:
            message, size = read_message(received)
        except IncompleteError:
            continue
        received = received[size:]
        if received:
            raise ValueError("a message was sent before the answer to the previous one")
        forwarded, answer = check_call(message)
        if forwarded:
            server.sendall(_frame(write_message(forwarded)))
        if answer:
            with lock:
                client.sendall(_frame(write_message(answer)))


def _forward_login(client: socket.socket, server: socket.socket) -> None:
    """Forward the messages of the login between client and server. The server accepts every user name."""
    _forward_login_state(client, server)
    while True:
        _forward_login_state(client, server)
        state = _forward_login_state(server, client)
        if state == _COMPLETE:
            return
        if state != _CONTINUED:
            raise EOFError


def _forward_login_state(source: socket.socket, target: socket.socket) -> int:
    """Forward one message of the login, and return the state of the login that the message declares."""
    head = _read_exactly(source, 5)
    state, size = struct.unpack(">bI", head)
    if size > _LARGEST_LOGIN:
        raise ValueError("too long")
    target.sendall(head + _read_exactly(source, size))
    return int(state)


def _forward_replies(server: socket.socket, client: socket.socket, lock: threading.Lock) -> None:
    """Forward the server's messages to the client until one side disconnects, then close both connections."""
    try:
        while True:
            frame = _read_frame(server, 1 << 31)
            with lock:
                client.sendall(_frame(frame))
    except (OSError, EOFError, ValueError):
        for connection in (server, client):  # this also ends the thread that forwards messages to the server
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def _read_frame(source: socket.socket, largest: int) -> bytes:
    """Return the content of the next frame of a connection. A frame consists of a length and the content."""
    (size,) = struct.unpack(">I", _read_exactly(source, 4))
    if size > largest:
        raise ValueError("too long")
    return _read_exactly(source, size)


def _frame(data: bytes) -> bytes:
    """Return a frame with the given content: the length of the content, and the content."""
    return struct.pack(">I", len(data)) + data


def _read_exactly(source: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes of a connection."""
    data = bytearray()
    while len(data) < size:
        if not (part := source.recv(min(size - len(data), 1 << 16))):
            raise EOFError
        data += part
    return bytes(data)
