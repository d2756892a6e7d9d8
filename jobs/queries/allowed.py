"""Check that an SQL statement only reads the tables, views and functions of one warehouse.

A statement is parsed into a syntax tree. A statement is refused if it cannot be parsed, or if a node of the
tree is not in a list of allowed nodes. Spark runs SQL that is generated from the checked tree, not the typed
text.
"""

from __future__ import annotations

import sys

from sqlglot import Token, TokenType
from sqlglot.errors import ParseError

from deltabook.jobs.queries.builtins import BUILTINS
from deltabook.jobs.queries.dialect import SparkQuery, encode_string
from deltabook.jobs.queries.functions import FUNCTIONS
from deltabook.jobs.queries.query_tree import (
    QUERY_WORDS,
    AllowedQuery,
    ForbiddenQueryError,
    check_query,
    forbidden_error,
)
from deltabook.jobs.queries.views import RELATIONS

_MODES = ("EXTENDED", "CODEGEN", "COST", "FORMATTED")
_SUBSTITUTED = "${"
_RECURSION = 6_000
"""Python's recursion limit while a statement is parsed. Each level of nested SQL takes up to 25 calls."""


def check_statement(text: str) -> AllowedQuery:
    """Check that a statement only reads the warehouse, and return the SQL to run instead of the typed text.

    Parameters
    ----------
    text : str
        One SQL statement, as typed.

    Returns
    -------
    AllowedQuery
        The generated SQL, and the relations that the SQL needs.

    Raises
    ------
    ForbiddenQueryError
        If a part of the statement is not allowed, or if the statement cannot be parsed. The message names the
        part and the remedy.
    """
    if _SUBSTITUTED in text:
        raise forbidden_error(f"variable substitution ({_SUBSTITUTED}…}})")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION))
    try:
        return _check_tokens(text)
    except ForbiddenQueryError:
        raise
    except RecursionError:
        raise forbidden_error("SQL nested this deep") from None
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        position = f" at line {first['line']}, column {first['col']}" if first.get("line") else ""
        raise forbidden_error(f"SQL that cannot be parsed{position}") from None
    except Exception:  # the parser itself failed, so the statement was not checked
        raise forbidden_error("SQL that cannot be parsed") from None
    finally:
        sys.setrecursionlimit(limit)


def _check_tokens(text: str) -> AllowedQuery:
    """Check a query, the command EXPLAIN or DESCRIBE with a query, or another allowed command."""
    dialect = SparkQuery()
    tokens = dialect.tokenize(text)
    if tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if any(token.token_type is TokenType.PIPE_GT for token in tokens):
        raise forbidden_error("the pipe syntax |>")
    words = [token.text.upper() for token in tokens]
    match words:
        case ["EXPLAIN", mode, *_] if mode in _MODES:
            query = check_query(dialect, tokens[2:], text)
            return AllowedQuery(f"EXPLAIN {mode} {query.text}", query.relations)
        case ["EXPLAIN", *_]:
            query = check_query(dialect, tokens[1:], text)
            return AllowedQuery(f"EXPLAIN {query.text}", query.relations)
        case ["DESC" | "DESCRIBE", "QUERY", *_]:
            query = check_query(dialect, tokens[2:], text)
            return AllowedQuery(f"DESCRIBE QUERY {query.text}", query.relations)
        case ["DESC" | "DESCRIBE", first, *_] if first in QUERY_WORDS:
            query = check_query(dialect, tokens[1:], text)
            return AllowedQuery(f"DESCRIBE QUERY {query.text}", query.relations)
    return _check_command(tokens, words) or check_query(dialect, tokens, text)


def _check_command(tokens: list[Token], words: list[str]) -> AllowedQuery | None:
    """Return the SQL of a statement that is not a query, such as SHOW TABLES; None if no form matches."""
    pattern = tokens[-1] if tokens and tokens[-1].token_type is TokenType.STRING else None
    match words:
        case ["TABLE", _]:
            return _relation_command("TABLE", tokens[-1])
        case ["DESC" | "DESCRIBE", _] | ["DESC" | "DESCRIBE", "TABLE", _]:
            return _relation_command("DESCRIBE TABLE", tokens[-1])
        case ["SHOW", "COLUMNS", "IN" | "FROM", _]:
            return _relation_command("SHOW COLUMNS IN", tokens[-1])
        case ["DESC" | "DESCRIBE", "FUNCTION", _]:
            return _function_command("DESCRIBE FUNCTION", tokens[-1])
        case ["DESC" | "DESCRIBE", "FUNCTION", "EXTENDED", _]:
            return _function_command("DESCRIBE FUNCTION EXTENDED", tokens[-1])
        case ["SHOW", "VIEWS" | "TABLES" | "FUNCTIONS" as kind]:
            return AllowedQuery(f"SHOW {kind}", RELATIONS)
        case ["SHOW", "USER" | "SYSTEM" | "ALL" as which, "FUNCTIONS"]:
            return AllowedQuery(f"SHOW {which} FUNCTIONS", RELATIONS)
        case ["SHOW", "VIEWS" | "TABLES" | "FUNCTIONS" as kind, "LIKE", _] if pattern:
            return AllowedQuery(f"SHOW {kind} LIKE {encode_string(pattern.text)}", RELATIONS)
    return None


def _relation_command(command: str, token: Token) -> AllowedQuery:
    """Return the SQL of a command about one relation, such as DESCRIBE TABLE; `token` is its name."""
    name = token.text.lower()
    if token.token_type is TokenType.STRING or name not in RELATIONS:
        raise forbidden_error(f"relation {token.text}")
    return AllowedQuery(f"{command} `{name}`", frozenset((name,)))


def _function_command(command: str, token: Token) -> AllowedQuery:
    """Return the SQL of a command about one function, such as DESCRIBE FUNCTION; `token` is its name."""
    name = token.text.lower()
    if token.token_type is TokenType.STRING or name not in {*BUILTINS, *FUNCTIONS}:
        raise forbidden_error(f"function {token.text}")
    return AllowedQuery(f"{command} `{name}`", frozenset((name,)) & RELATIONS)
