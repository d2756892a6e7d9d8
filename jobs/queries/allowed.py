"""What a query may do: read the relations of its warehouse, and nothing else.

A statement is parsed, every node of its tree is looked up in a list of what is allowed, and what is run is
generated from that tree. Whatever is not listed is refused, and so is what cannot be parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlglot import exp
from sqlglot.errors import ErrorLevel, ParseError
from sqlglot.tokens import Token, TokenType

from deltabook.jobs.queries.builtins import BUILTINS, ENVIRONMENT, HINTS
from deltabook.jobs.queries.dialect import SparkQuery, string_literal
from deltabook.jobs.queries.functions import FUNCTIONS
from deltabook.jobs.queries.nodes import ALLOWED_ARGUMENTS, ALLOWED_TYPES, WORDS
from deltabook.jobs.queries.views import RELATIONS
from deltabook.schemas.errors import DeltabookError

_QUERIES = ("SELECT", "WITH", "FROM", "VALUES", "(")
_STATEMENTS = "SELECT, WITH, FROM, VALUES, TABLE, EXPLAIN, DESCRIBE and SHOW"
_SHOWN = 80
"""Characters of a refused part that a message shows."""
_MODES = ("EXTENDED", "CODEGEN", "COST", "FORMATTED")
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEYWORDS = re.compile(r"[A-Z]+(_[A-Z]+)*( [A-Z]+)*")
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?([lLsSyYdDfF]|[bB][dD])?", re.ASCII)
_DIGITS = re.compile("[0-9A-Fa-f]*")
_NAMED = (exp.Identifier, exp.Literal, exp.HexString, exp.Anonymous, exp.Var)
"""Kinds of nodes whose `this` is a text that is checked, or quoted, by its kind."""
_OF_UNITS = ("dateadd", "date_add", "datediff", "date_diff", "timestampadd", "timestampdiff")
"""Functions whose first argument of three is a unit of time."""
_SUBSTITUTED = "${"


class ForbiddenQueryError(DeltabookError):
    """The query would do more than read the warehouse's relations, or its SQL is not understood."""


class AllowedQuery(NamedTuple):
    """A statement that only reads the warehouse.

    Attributes
    ----------
    text : str
        The SQL to run, generated from the checked tree.
    relations : frozenset of str
        Names of the tables, views and functions of the warehouse that it needs.
    """

    text: str
    relations: frozenset[str]


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
        raise _forbidden(f"variable substitution ({_SUBSTITUTED}…}})")
    try:
        return _allowed_statement(text)
    except ForbiddenQueryError:
        raise
    except ParseError as error:
        found = error.errors[0] if error.errors else {"description": "not understood"}
        place = f" at line {found['line']}, column {found['col']}" if found.get("line") else ""
        raise _forbidden(f"SQL that cannot be parsed{place}") from None
    except Exception:  # whatever the parser fails on was not checked
        raise _forbidden("SQL that cannot be parsed") from None


def _allowed_statement(text: str) -> AllowedQuery:
    dialect = SparkQuery()
    tokens = dialect.tokenize(text)
    if tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if any(token.token_type is TokenType.PIPE_GT for token in tokens):
        raise _forbidden("the pipe syntax |>")
    words = [token.text.upper() for token in tokens]
    match words:
        case ["EXPLAIN", mode, *_] if mode in _MODES:
            query = _allowed_tree(dialect, tokens[2:], text)
            return AllowedQuery(f"EXPLAIN {mode} {query.text}", query.relations)
        case ["EXPLAIN", *_]:
            query = _allowed_tree(dialect, tokens[1:], text)
            return AllowedQuery(f"EXPLAIN {query.text}", query.relations)
        case ["DESC" | "DESCRIBE", "QUERY", *_]:
            query = _allowed_tree(dialect, tokens[2:], text)
            return AllowedQuery(f"DESCRIBE QUERY {query.text}", query.relations)
        case ["DESC" | "DESCRIBE", first, *_] if first in _QUERIES:
            query = _allowed_tree(dialect, tokens[1:], text)
            return AllowedQuery(f"DESCRIBE QUERY {query.text}", query.relations)
    return _allowed_command(tokens, words) or _allowed_tree(dialect, tokens, text)


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
        raise _forbidden(f"relation {token.text}")
    return AllowedQuery(f"{command} `{name}`", frozenset((name,)))


def _about_function(command: str, token: Token) -> AllowedQuery:
    name = token.text.lower()
    if token.token_type is TokenType.STRING or name not in {*BUILTINS, *FUNCTIONS}:
        raise _forbidden(f"function {token.text}")
    return AllowedQuery(f"{command} `{name}`", frozenset((name,)) & RELATIONS)


def _allowed_tree(dialect: SparkQuery, tokens: list[Token], text: str) -> AllowedQuery:
    """Parse a query, check its tree, and generate it; what is generated must parse to the same tree."""
    if not tokens or tokens[0].text.upper() not in _QUERIES:
        raise _forbidden(f"{tokens[0].text.upper()[:40] if tokens else 'nothing'} at the beginning")
    trees = dialect.parser(error_level=ErrorLevel.RAISE).parse(tokens, text)
    if len(trees) != 1 or trees[0] is None:
        raise _forbidden("more than one statement")
    _require_query(trees[0])
    tree = _normalized(trees[0])
    checker = _Checker()
    checker.check(tree, frozenset())
    generated = _generated(dialect, tree)
    (again,) = dialect.parse(generated, error_level=ErrorLevel.RAISE)
    if again is None or _normalized(again) != tree or _generated(dialect, again) != generated:
        raise _forbidden("SQL that has more than one meaning")
    return AllowedQuery(generated, frozenset(checker.relations))


def _generated(dialect: SparkQuery, tree: exp.Expr) -> str:
    return dialect.generate(
        tree, identify=True, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE
    )


def _normalized(tree: exp.Expr) -> exp.Expr:
    """Write names and defaults in one way: identifiers quoted, functions in lower case."""
    for node in tree.walk():
        if isinstance(node, exp.Identifier):
            node.set("quoted", True)
        elif isinstance(node, exp.Anonymous):
            node.set("this", node.name.lower())
            if node.this in _OF_UNITS and len(node.expressions) == 3:
                unit = node.expressions[0]
                if isinstance(unit, exp.Column) and not unit.table:
                    unit.replace(exp.var(unit.name))
        elif isinstance(node, exp.Kwarg) and isinstance(node.this, exp.Var):
            node.set("this", exp.to_identifier(node.this.name, quoted=True))
        elif isinstance(node, exp.WindowSpec) and not node.args.get("end"):
            node.set("end", "CURRENT ROW")
        elif isinstance(node, exp.Pivot):  # made from names, and not generated
            node.set("columns", None)
            node.set("pivot_column_naming", None)
    return tree


class _Checker:
    """Looks up every node of a tree in the lists of what is allowed.

    Attributes
    ----------
    relations : set of str
        Tables, views and functions of the warehouse that were found.
    """

    def __init__(self) -> None:
        self.relations: set[str] = set()

    def check(self, node: exp.Expr, names: frozenset[str]) -> None:
        """Check a node and all below it.

        Parameters
        ----------
        node : Expr
            The root of a tree.
        names : frozenset of str
            Names of the common table expressions that it can see.

        Raises
        ------
        ForbiddenQueryError
            If anything in it is not allowed.
        """
        if isinstance(node, exp.Table):
            self._check_relation(node, names)
        self._check_arguments(node)
        if isinstance(node, exp.CTE):
            _require_query(node.this)
        self._check_words(node)
        below = dict(node.args)
        if with_ := below.pop("with_", None):
            names = self._check_with(with_, names)
        for value in below.values():
            self._check_values(value if isinstance(value, list) else [value], names)

    def _check_arguments(self, node: exp.Expr) -> None:
        """Check that a node is of an allowed kind, and has allowed arguments alone."""
        kind = _title(type(node).__name__)
        arguments = ALLOWED_ARGUMENTS.get(type(node))
        if arguments is None:
            raise _forbidden(kind)
        for argument, value in node.args.items():
            if value not in (None, False, []) and argument not in arguments:
                raise _forbidden(f"{argument.strip('_').upper()} of {kind}")

    def _check_values(self, values: Iterable[Any], names: frozenset[str]) -> None:
        for value in values:
            if isinstance(value, exp.Expr):
                self.check(value, names)

    def _check_with(self, with_: exp.With, names: frozenset[str]) -> frozenset[str]:
        """Check common table expressions, each of which sees those before it; return all names."""
        self._check_arguments(with_)
        for one in with_.expressions:
            own = names | {one.alias.lower()}
            self.check(one, own if with_.args.get("recursive") else names)
            names = own
        return names

    def _check_words(self, node: exp.Expr) -> None:
        """Check what a node itself says: names of functions and types, numbers, and keywords."""
        for argument, value in node.args.items():
            values = value if isinstance(value, list) else [value]
            for one in values:
                if isinstance(one, str) and not (argument == "this" and isinstance(node, _NAMED)):
                    _require(_KEYWORDS, one, "word")
        match node:
            case exp.Identifier():
                if node.name.lower() == "_metadata":
                    raise _forbidden("column _metadata")
            case exp.Anonymous():
                self._check_function(node)
            case exp.Column():
                if not node.table and node.name.lower() in ENVIRONMENT:
                    raise _forbidden(f"function {node.name}")
            case exp.Dot():
                if not isinstance(node.expression, exp.Identifier):
                    raise _forbidden(f"a name before {node.expression.name}(…)")
            case exp.Literal():
                if not node.is_string:
                    _require(_NUMBER, node.name, "number")
            case exp.HexString():
                _require(_DIGITS, node.name, "number")
            case exp.Var():
                if node.name.upper() not in WORDS and not isinstance(node.parent, exp.Collate):
                    raise _forbidden(f"word {node.name}")
                _require(_WORD, node.name, "word")
            case exp.DataType():
                if not isinstance(node.this, exp.Expr) and node.this not in ALLOWED_TYPES:
                    raise _forbidden(f"type {node.this.value}")

    def _check_function(self, node: exp.Anonymous) -> None:
        name = node.name.lower()
        if isinstance(node.parent, exp.Hint):
            if name not in HINTS:
                raise _forbidden(f"hint {name}")
        elif name in FUNCTIONS:
            self.relations.add(name)
        elif name not in BUILTINS:
            raise _forbidden(f"function {name}")

    def _check_relation(self, node: exp.Table, names: frozenset[str]) -> None:
        is_qualified = bool(node.args.get("db") or node.args.get("catalog"))
        if isinstance(node.this, exp.Anonymous) and not is_qualified:
            return
        name = node.name.lower()
        if is_qualified or not isinstance(node.this, exp.Identifier):
            raise _forbidden(f"relation {'.'.join(part.name for part in node.parts)}")
        if name not in names:
            if name not in RELATIONS or name in FUNCTIONS:
                raise _forbidden(f"relation {node.name}")
            self.relations.add(name)


def _require(pattern: re.Pattern[str], text: str, kind: str) -> None:
    if not pattern.fullmatch(text):
        raise _forbidden(f"{kind} {text}")


def _require_query(tree: exp.Expr) -> None:
    """Refuse what sqlglot takes for an expression, and a SELECT of nothing."""
    if not isinstance(tree, (exp.Query, exp.Values)) or (isinstance(tree, exp.Select) and not tree.expressions):
        raise _forbidden(tree.key.upper())


def _title(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).upper()


def _forbidden(what: str) -> ForbiddenQueryError:
    shown = "".join(char if char.isprintable() else "?" for char in what)[:_SHOWN]
    return ForbiddenQueryError(
        f"{shown} is not allowed: a query only reads its warehouse. Allowed are {_STATEMENTS}, with the "
        "relations that SHOW TABLES and SHOW USER FUNCTIONS list, and Spark functions that depend on their "
        "arguments alone. --unsafe runs any statement"
    )
