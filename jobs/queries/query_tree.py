"""The tree of a query: parsed, looked up in the lists of what is allowed, and written as SQL again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlglot import Token, exp
from sqlglot.errors import ErrorLevel

from deltabook.jobs.queries.builtins import BUILTINS, ENVIRONMENT, HINTS
from deltabook.jobs.queries.dialect import SparkQuery
from deltabook.jobs.queries.functions import FUNCTIONS
from deltabook.jobs.queries.nodes import ALLOWED_ARGUMENTS, ALLOWED_TYPES, COLLATION, WORDS
from deltabook.jobs.queries.views import RELATIONS
from deltabook.schemas.errors import DeltabookError

QUERY_WORDS = ("SELECT", "WITH", "FROM", "VALUES", "(")
"""How a query begins."""
_KEYWORDS = re.compile(r"[A-Z]+(_[A-Z]+)*( [A-Z]+)*")
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?([lLsSyYdDfF]|[bB][dD])?", re.ASCII)
_DIGITS = re.compile("[0-9A-Fa-f]*")
_NAMED = (exp.Identifier, exp.Literal, exp.HexString, exp.Anonymous, exp.Var)
"""Kinds of nodes whose `this` is a text that is checked, or quoted, by its kind."""
_OF_UNITS = ("dateadd", "date_add", "datediff", "date_diff", "timestampadd", "timestampdiff")
"""Functions whose first argument of three is a unit of time."""
_STATEMENTS = "SELECT, WITH, FROM, VALUES, TABLE, EXPLAIN, DESCRIBE and SHOW"
_SHOWN = 80
"""Characters of a refused part that a message shows."""


class ForbiddenQueryError(DeltabookError):
    """The query would do more than read the warehouse's relations, or its SQL is not understood."""


class UnknownRelationError(ForbiddenQueryError):
    """The query names a relation that a warehouse does not have."""


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


def checked_query(dialect: SparkQuery, tokens: list[Token], text: str) -> AllowedQuery:
    """Parse a query, check its tree, and generate the SQL to run; that must parse to the same tree.

    Parameters
    ----------
    dialect : SparkQuery
        Parses and generates.
    tokens : list of Token
        Those of the query.
    text : str
        What they were cut from.

    Raises
    ------
    ForbiddenQueryError
        If anything in the tree is not allowed.
    ParseError
        If the tokens are no query.
    """
    if not tokens or tokens[0].text.upper() not in QUERY_WORDS:
        raise forbidden(f"{tokens[0].text.upper()[:40] if tokens else 'nothing'} at the beginning")
    trees = dialect.parser(error_level=ErrorLevel.RAISE).parse(tokens, text)
    if len(trees) != 1 or trees[0] is None:
        raise forbidden("more than one statement")
    _require_query(trees[0])
    tree = _normalized(trees[0])
    checker = _Checker()
    checker.check(tree, frozenset())
    generated = _generated(dialect, tree)
    (again,) = dialect.parse(generated, error_level=ErrorLevel.RAISE)
    if again is None or _normalized(again) != tree or _generated(dialect, again) != generated:
        raise forbidden("SQL that has more than one meaning")
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
            raise forbidden(kind)
        for argument, value in node.args.items():
            if value not in (None, False, []) and argument not in arguments:
                raise forbidden(f"{argument.strip('_').upper()} of {kind}")

    def _check_values(self, values: Iterable[Any], names: frozenset[str]) -> None:
        for value in values:
            if isinstance(value, exp.Expr):
                self.check(value, names)

    def _check_with(self, with_: exp.With, names: frozenset[str]) -> frozenset[str]:
        """Check common table expressions, each of which sees those before it; return all names."""
        self._check_arguments(with_)
        for one in with_.expressions:
            own = names | {_key(one.alias)}
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
                if _folded(node.name) == "_metadata":
                    raise forbidden("column _metadata")
            case exp.Anonymous():
                self._check_function(node)
            case exp.Column():
                if not node.table and _folded(node.name) in ENVIRONMENT:
                    raise forbidden(f"function {node.name}")
            case exp.Dot():
                if not isinstance(node.expression, exp.Identifier):
                    raise forbidden(f"a name before {node.expression.name}(…)")
            case exp.Literal():
                if not node.is_string:
                    _require(_NUMBER, node.name, "number")
            case exp.HexString():
                _require(_DIGITS, node.name, "number")
            case exp.Var():
                is_collation = isinstance(node.parent, exp.Collate) and COLLATION.fullmatch(node.name)
                is_word = node.name.isascii() and node.name.upper() in WORDS
                if not (is_word or is_collation):
                    raise forbidden(f"word {node.name}")
            case exp.DataType():
                if not isinstance(node.this, exp.Expr) and node.this not in ALLOWED_TYPES:
                    raise forbidden(f"type {node.this.value}")

    def _check_function(self, node: exp.Anonymous) -> None:
        name = node.name.lower()
        if isinstance(node.parent, exp.Hint):
            if name not in HINTS:
                raise forbidden(f"hint {name}")
        elif name in FUNCTIONS:
            self.relations.add(name)
        elif name not in BUILTINS:
            raise forbidden(f"function {name}")

    def _check_relation(self, node: exp.Table, names: frozenset[str]) -> None:
        is_qualified = bool(node.args.get("db") or node.args.get("catalog"))
        if isinstance(node.this, exp.Anonymous) and not is_qualified:
            return
        name = node.name.lower()
        if is_qualified or not isinstance(node.this, exp.Identifier):
            raise forbidden(f"relation {'.'.join(part.name for part in node.parts)}")
        if _key(node.name) not in names:
            if name not in RELATIONS or name in FUNCTIONS:
                raise UnknownRelationError(str(forbidden(f"relation {node.name}")))
            self.relations.add(name)


def _require(pattern: re.Pattern[str], text: str, kind: str) -> None:
    if not pattern.fullmatch(text):
        raise forbidden(f"{kind} {text}")


def _require_query(tree: exp.Expr) -> None:
    """Refuse what sqlglot takes for an expression, and a SELECT of nothing."""
    if not isinstance(tree, (exp.Query, exp.Values)) or (
        isinstance(tree, exp.Select) and not tree.expressions
    ):
        raise forbidden(tree.key.upper())


def _folded(name: str) -> str:
    """Return a name's lower case as Spark compares names, to which ſ is an s, and ı and İ are an i."""
    return "".join(char.upper().lower()[:1] for char in name)


def _key(name: str) -> str:
    """Return what two names of a relation have in common if Spark takes them for the same."""
    return name.lower() if name.isascii() else name


def _title(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).upper()


def forbidden(what: str) -> ForbiddenQueryError:
    """Return the error that names what is not allowed, and the remedy.

    Parameters
    ----------
    what : str
        The part of a statement; may hold anything that was typed.
    """
    shown = "".join(char if char.isprintable() else "?" for char in what)[:_SHOWN]
    return ForbiddenQueryError(
        f"{shown} is not allowed: a query only reads its warehouse. Allowed are {_STATEMENTS}, with the "
        "relations that SHOW TABLES and SHOW USER FUNCTIONS list, and Spark functions that depend on their "
        "arguments alone. --unsafe runs any statement"
    )
