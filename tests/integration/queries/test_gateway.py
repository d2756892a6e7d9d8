"""The gateway before Spark's Thrift server: it forwards checked statements, and refuses everything else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.jobs.queries.gateway import check_call
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
    read_message,
    write_message,
)

LIST, I64, BOOL = 15, 10, 2


def values(depth: int = 2) -> st.SearchStrategy[tuple[int, object]]:
    plain = [
        st.tuples(st.just(I32), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just(I64), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(BOOL), st.sampled_from([0, 1])),
        st.tuples(st.just(STRING), st.binary(max_size=9)),
        st.tuples(st.just(LIST), st.tuples(st.just(STRING), st.lists(st.binary(max_size=3), max_size=3))),
        st.tuples(
            st.just(MAP),
            st.tuples(
                st.just(STRING),
                st.just(I32),
                st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 9)), max_size=3),
            ),
        ),
    ]
    return st.one_of(*plain, st.tuples(st.just(STRUCT), fields(depth - 1))) if depth else st.one_of(*plain)


def fields(depth: int = 2) -> st.SearchStrategy[dict[int, tuple[int, object]]]:
    return st.dictionaries(st.integers(-(2**15), 2**15 - 1), values(depth), max_size=4)


def messages() -> st.SearchStrategy[Message]:
    return st.builds(
        Message, st.text(max_size=12), st.sampled_from([CALL, REPLY]), st.integers(0, 99), fields()
    )


@cases(200)
@given(messages())
def test_messages_are_read_as_they_were_written(message):
    written = write_message(message)
    assert read_message(written + b"more") == (message, len(written))


@cases(100)
@given(messages(), st.integers(0, 10_000))
def test_cut_message_is_incomplete(message, place):
    written = write_message(message)
    with pytest.raises(IncompleteError):
        read_message(written[: place % len(written)])


@cases(300)
@given(messages(), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=5))
def test_damaged_message_is_read_incomplete_or_refused(message, flips):
    written = bytearray(write_message(message))
    for place, value in flips:
        written[place % len(written)] = value
    try:
        again, _ = read_message(bytes(written))
    except (IncompleteError, ValueError):
        return
    assert read_message(write_message(again))[0] == again


def execute(statement: str, **settings: str) -> Message:
    request = {
        1: (STRUCT, {1: (STRING, b"handle")}),
        2: (STRING, statement.encode()),
        3: (MAP, (STRING, STRING, [(name.encode(), one.encode()) for name, one in settings.items()])),
        4: (BOOL, 1),
    }
    return Message("ExecuteStatement", CALL, 7, {1: (STRUCT, request)})


def test_reading_statement_is_forwarded_as_checked_without_settings():
    passed, answer = check_call(execute("select 1 /* x */ from books", variable="x"))
    assert answer is None
    assert passed is not None
    request = passed.fields[1][1]
    assert request[2] == (STRING, b"SELECT 1 FROM `books`")
    assert request[3] == (MAP, (STRING, STRING, []))
    assert (request[1], request[4]) == ((STRUCT, {1: (STRING, b"handle")}), (BOOL, 1))


@pytest.mark.parametrize(
    "statement",
    ["SET a = b", "SELECT reflect('a')", "ADD JAR '/x'", "SELECT * FROM text.`/x`", "SELECT 1; SELECT 2", ""],
)
def test_other_statement_is_answered_with_the_reason(statement):
    passed, answer = check_call(execute(statement))
    assert passed is None
    assert answer is not None
    assert (answer.kind, answer.name, answer.sequence) == (REPLY, "ExecuteStatement", 7)
    status = answer.fields[0][1][1][1]
    assert status[1] == (I32, 3)
    assert b"is not allowed" in status[5][1]


def test_settings_of_a_session_are_dropped():
    settings = (STRING, STRING, [(b"set:hiveconf:spark.sql.runSQLOnFiles", b"true")])
    call = Message("OpenSession", CALL, 1, {1: (STRUCT, {1: (I32, 9), 4: (MAP, settings)})})
    passed, _ = check_call(call)
    assert passed is not None
    assert passed.fields[1][1] == {1: (I32, 9), 4: (MAP, (STRING, STRING, []))}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("GetDelegationToken", CALL), ("SetClientInfo", CALL), ("ExecuteStatement", 4), ("", CALL)],
)
def test_call_of_an_unlisted_function_is_refused(name, kind):
    passed, answer = check_call(Message(name, kind, 1, {}))
    assert passed is None
    assert answer is not None
    assert answer.kind == EXCEPTION


@pytest.mark.parametrize(
    "message",
    [Message("ExecuteStatement", CALL, 1, {1: (STRING, b"x")}), Message("OpenSession", CALL, 1, {})],
)
def test_call_without_its_request_ends_the_connection(message):
    with pytest.raises(ValueError, match="no request"):
        check_call(message)


def test_other_protocols_are_refused():
    with pytest.raises(ValueError, match="not the binary protocol"):
        read_message(struct.pack(">i", 5) + b"hello")
