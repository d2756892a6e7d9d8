"""What a query may do: read the relations of its warehouse, and nothing else.

A statement is parsed, every node of its tree is looked up in a list of what is allowed, and what is run is
generated from that tree. Whatever is not listed is refused, and so is what cannot be parsed.
"""

from __future__ import annotations

import sys

from sqlglot import Token, TokenType
from sqlglot.errors import ParseError

from deltabook.jobs.queries.builtins import BUILTINS
from deltabook.jobs.queries.dialect import SparkQuery, string_literal
from deltabook.jobs.queries.functions import FUNCTIONS
from deltabook.jobs.queries.query_tree import (
    QUERY_WORDS,
    AllowedQuery,
    ForbiddenQueryError,
    checked_query,
    forbidden,
)
from deltabook.jobs.queries.views import RELATIONS

_MODES = ("EXTENDED", "CODEGEN", "COST", "FORMATTED")
_SUBSTITUTED = "${"
_RECURSION = 6_000
"""Calls of Python within each other; one level of SQL takes up to 25."""


def allowed_query(text: str) -> AllowedQuery:
    """Check that a statement only reads the warehouse, and return the SQL to run in its place.

    Parameters
    ----------
    text : str
        One SQL statement, as typed.

    Raises
    ------
    ForbiddenQueryError
        If anything in it is not allowed, or it cannot be parsed; the message names what, and the remedy.
    """
    if _SUBSTITUTED in text:
        raise forbidden(f"variable substitution ({_SUBSTITUTED}…}})")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION))
    try:
        return _allowed_statement(text)
    except ForbiddenQueryError:
        raise
    except RecursionError:
        raise forbidden("SQL nested this deep") from None
    except ParseError as error:
        found = error.errors[0] if error.errors else {"description": "not understood"}
        place = f" at line {found['line']}, column {found['col']}" if found.get("line") else ""
        raise forbidden(f"SQL that cannot be parsed{place}") from None
    except Exception:  # whatever the parser fails on was not checked
        raise forbidden("SQL that cannot be parsed") from None
    finally:
        sys.setrecursionlimit(limit)


def _allowed_statement(text: str) -> AllowedQuery:
    dialect = SparkQuery()
    tokens = dialect.tokenize(text)
    if tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if any(token.token_type is TokenType.PIPE_GT for token in tokens):
        raise forbidden("the pipe syntax |>")
    words = [token.text.upper() for token in tokens]
    match words:
        case ["EXPLAIN", mode, *_] if mode in _MODES:
            query = checked_query(dialect, tokens[2:], text)
            return AllowedQuery(f"EXPLAIN {mode} {query.text}", query.relations)
        case ["EXPLAIN", *_]:
            query = checked_query(dialect, tokens[1:], text)
            return AllowedQuery(f"EXPLAIN {query.text}", query.relations)
        case ["DESC" | "DESCRIBE", "QUERY", *_]:
            query = checked_query(dialect, tokens[2:], text)
            return AllowedQuery(f"DESCRIBE QUERY {query.text}", query.relations)
        case ["DESC" | "DESCRIBE", first, *_] if first in QUERY_WORDS:
            query = checked_query(dialect, tokens[1:], text)
            return AllowedQuery(f"DESCRIBE QUERY {query.text}", query.relations)
    return _allowed_command(tokens, words) or checked_query(dialect, tokens, text)


def _allowed_command(tokens: list[Token], words: list[str]) -> AllowedQuery | None:
    """Build a statement that is no query; None if it has none of the forms that are allowed."""
    pattern = tokens[-1] if tokens and tokens[-1].token_type is TokenType.STRING else None
    match words:
        case ["TABLE", _]:
            return _about_relation("TABLE", tokens[-1])
        case ["DESC" | "DESCRIBE", _] | ["DESC" | "DESCRIBE", "TABLE", _]:
            return _about_relation("DESCRIBE TABLE", tokens[-1])
        case ["SHOW", "COLUMNS", "IN" | "FROM", _]:
            return _about_relation("SHOW COLUMNS IN", tokens[-1])
        case ["DESC" | "DESCRIBE", "FUNCTION", _]:
            return _about_function("DESCRIBE FUNCTION", tokens[-1])
        case ["DESC" | "DESCRIBE", "FUNCTION", "EXTENDED", _]:
            return _about_function("DESCRIBE FUNCTION EXTENDED", tokens[-1])
        case ["SHOW", "VIEWS" | "TABLES" | "FUNCTIONS" as kind]:
            return AllowedQuery(f"SHOW {kind}", RELATIONS)
        case ["SHOW", "USER" | "SYSTEM" | "ALL" as which, "FUNCTIONS"]:
            return AllowedQuery(f"SHOW {which} FUNCTIONS", RELATIONS)
        case ["SHOW", "VIEWS" | "TABLES" | "FUNCTIONS" as kind, "LIKE", _] if pattern:
            return AllowedQuery(f"SHOW {kind} LIKE {string_literal(pattern.text)}", RELATIONS)
    return None


def _about_relation(command: str, token: Token) -> AllowedQuery:
    name = token.text.lower()
    if token.token_type is TokenType.STRING or name not in RELATIONS:
        raise forbidden(f"relation {token.text}")
    return AllowedQuery(f"{command} `{name}`", frozenset((name,)))


def _about_function(command: str, token: Token) -> AllowedQuery:
    name = token.text.lower()
    if token.token_type is TokenType.STRING or name not in {*BUILTINS, *FUNCTIONS}:
        raise forbidden(f"function {token.text}")
    return AllowedQuery(f"{command} `{name}`", frozenset((name,)) & RELATIONS)
