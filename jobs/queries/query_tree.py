"""Parse a query into a syntax tree, check that all nodes are allowed, and generate SQL from the tree."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from sqlglot import Token, exp
from sqlglot.errors import ErrorLevel

from deltabook.jobs.queries.builtins import BUILTINS, ENVIRONMENT, HINTS
from deltabook.jobs.queries.dialect import SparkQuery
from deltabook.jobs.queries.functions import FUNCTIONS
from deltabook.jobs.queries.nodes import ALLOWED_ARGUMENTS, ALLOWED_TYPES, COLLATION, WORDS
from deltabook.jobs.queries.views import RELATIONS
from deltabook.schemas.errors import DeltabookError

QUERY_WORDS = ("SELECT", "WITH", "FROM", "VALUES", "(")
"""Words with which a query may begin."""
_KEYWORDS = re.compile(r"[A-Z]+(_[A-Z]+)*( [A-Z]+)*")
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?([lLsSyYdDfF]|[bB][dD])?", re.ASCII)
_DIGITS = re.compile("[0-9A-Fa-f]*")
_NAMED = (exp.Identifier, exp.Literal, exp.HexString, exp.Anonymous, exp.Var)
"""Nodes whose argument `this` is free text. How the text is checked or quoted depends on the kind of node."""
_WITH_UNIT = ("dateadd", "date_add", "datediff", "date_diff", "timestampadd", "timestampdiff")
"""Functions that take a unit of time as the first of three arguments."""
_STATEMENTS = "SELECT, WITH, FROM, VALUES, TABLE, EXPLAIN, DESCRIBE and SHOW"
_SHOWN = 80
"""Maximum number of characters of a refused part in a message."""


class ForbiddenQueryError(DeltabookError):
    """Raised if a statement does more than read the warehouse's relations, or if it cannot be parsed."""


class UnknownRelationError(ForbiddenQueryError):
    """Raised if a statement names a table, view or function that no warehouse has."""


class AllowedQuery(NamedTuple):
    """A checked statement, which only reads the warehouse.

    Attributes
    ----------
    text : str
        The SQL to run, generated from the checked tree.
    relations : frozenset of str
        Names of the warehouse's tables, views and functions that the statement uses.
    """

    text: str
    relations: frozenset[str]


def check_query(dialect: SparkQuery, tokens: list[Token], text: str) -> AllowedQuery:
    """Parse a query, check the syntax tree, and return SQL that is generated from the tree.

    If parsing the generated SQL results in another tree, the query is refused.

    Parameters
    ----------
    dialect : SparkQuery
        SQL dialect that parses and generates the SQL.
    tokens : list of Token
        Tokens of the query.
    text : str
        Text from which the tokens were read. The parser quotes this text in errors.

    Raises
    ------
    ForbiddenQueryError
        If a part of the tree is not allowed.
    ParseError
        If the tokens do not form a query.
    """
    if not tokens or tokens[0].text.upper() not in QUERY_WORDS:
        raise forbidden_error(f"{tokens[0].text.upper()[:40] if tokens else 'nothing'} at the beginning")
    trees = dialect.parser(error_level=ErrorLevel.RAISE).parse(tokens, text)
    if len(trees) != 1 or trees[0] is None:
        raise forbidden_error("more than one statement")
    _require_query(trees[0])
    tree = _normalize(trees[0])
    checker = _Checker()
    checker.check(tree, frozenset())
    generated = _generate(dialect, tree)
    (reparsed,) = dialect.parse(generated, error_level=ErrorLevel.RAISE)
    if reparsed is None or _normalize(reparsed) != tree or _generate(dialect, reparsed) != generated:
        raise forbidden_error("SQL that has more than one meaning")
    return AllowedQuery(generated, frozenset(checker.relations))


def _generate(dialect: SparkQuery, tree: exp.Expr) -> str:
    return dialect.generate(
        tree, identify=True, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE
    )


def _normalize(tree: exp.Expr) -> exp.Expr:
    """Normalize a tree in place, and return the tree.

    Identifiers become quoted, names of functions become lower case, and omitted defaults become explicit.
    """
    for node in tree.walk():
        if isinstance(node, exp.Identifier):
            node.set("quoted", True)
        elif isinstance(node, exp.Anonymous):
            node.set("this", node.name.lower())
            if node.this in _WITH_UNIT and len(node.expressions) == 3:
                unit = node.expressions[0]
                if isinstance(unit, exp.Column) and not unit.table:
                    unit.replace(exp.var(unit.name))
        elif isinstance(node, exp.Kwarg) and isinstance(node.this, exp.Var):
            node.set("this", exp.to_identifier(node.this.name, quoted=True))
        elif isinstance(node, exp.WindowSpec) and not node.args.get("end"):
            node.set("end", "CURRENT ROW")
        elif isinstance(node, exp.Pivot):  # sqlglot derives both arguments; the SQL has neither
            node.set("columns", None)
            node.set("pivot_column_naming", None)
    return tree


class _Checker:
    """Checks every node of a syntax tree against the lists of allowed nodes and words.

    Attributes
    ----------
    relations : set of str
        Names of the warehouse's tables, views and functions that the checked tree uses.
    """

    def __init__(self) -> None:
        self.relations: set[str] = set()

    def check(self, node: exp.Expr, names: frozenset[str]) -> None:
        """Check a node and all nodes below it.

        Parameters
        ----------
        node : Expr
            Root of the tree to check.
        names : frozenset of str
            Names of the common table expressions (WITH) that the node may use.

        Raises
        ------
        ForbiddenQueryError
            If a part of the tree is not allowed.
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
        """Check that the kind of a node is allowed, and that all arguments of the node are allowed."""
        kind = _node_title(type(node).__name__)
        arguments = ALLOWED_ARGUMENTS.get(type(node))
        if arguments is None:
            raise forbidden_error(kind)
        for argument, value in node.args.items():
            if value not in (None, False, []) and argument not in arguments:
                raise forbidden_error(f"{argument.strip('_').upper()} of {kind}")

    def _check_values(self, values: Iterable[object], names: frozenset[str]) -> None:
        """Check all values of an argument that are nodes of the tree; other values need no check here."""
        for value in values:
            if isinstance(value, exp.Expr):
                self.check(value, names)

    def _check_with(self, with_: exp.With, names: frozenset[str]) -> frozenset[str]:
        """Check common table expressions (WITH), and return the names that the query after WITH may use.

        `names` are the names that the first expression may use. Each expression may also use the names of all
        earlier expressions.
        """
        self._check_arguments(with_)
        for expression in with_.expressions:
            own = names | {_relation_key(expression.alias)}
            self.check(expression, own if with_.args.get("recursive") else names)
            names = own
        return names

    def _check_words(self, node: exp.Expr) -> None:
        """Check the texts in a node: names of functions and types, numbers, and keywords."""
        for argument, value in node.args.items():
            values = value if isinstance(value, list) else [value]
            for word in values:
                if isinstance(word, str) and not (argument == "this" and isinstance(node, _NAMED)):
                    _require_match(_KEYWORDS, word, "word")
        match node:
            case exp.Identifier():
                if _fold_case(node.name) == "_metadata":
                    raise forbidden_error("column _metadata")
            case exp.Anonymous():
                self._check_function(node)
            case exp.Column():
                if not node.table and _fold_case(node.name) in ENVIRONMENT:
                    raise forbidden_error(f"function {node.name}")
            case exp.Dot():
                if not isinstance(node.expression, exp.Identifier):
                    raise forbidden_error(f"a name before {node.expression.name}(…)")
            case exp.Literal():
                if not node.is_string:
                    _require_match(_NUMBER, node.name, "number")
            case exp.HexString():
                _require_match(_DIGITS, node.name, "number")
            case exp.Var():
                is_collation = isinstance(node.parent, exp.Collate) and COLLATION.fullmatch(node.name)
                is_word = node.name.isascii() and node.name.upper() in WORDS
                if not (is_word or is_collation):
                    raise forbidden_error(f"word {node.name}")
            case exp.DataType():
                if not isinstance(node.this, exp.Expr) and node.this not in ALLOWED_TYPES:
                    raise forbidden_error(f"type {node.this.value}")

    def _check_function(self, node: exp.Anonymous) -> None:
        """Check that a called function or an optimizer hint is allowed."""
        name = node.name.lower()
        if isinstance(node.parent, exp.Hint):
            if name not in HINTS:
                raise forbidden_error(f"hint {name}")
        elif name in FUNCTIONS:
            self.relations.add(name)
        elif name not in BUILTINS:
            raise forbidden_error(f"function {name}")

    def _check_relation(self, node: exp.Table, names: frozenset[str]) -> None:
        """Check that the query may read a relation, and add the warehouse's relations to `relations`.

        `names` are the names of the common table expressions that the query may use.
        """
        is_qualified = bool(node.args.get("db") or node.args.get("catalog"))
        if isinstance(node.this, exp.Anonymous) and not is_qualified:
            return
        name = node.name.lower()
        if is_qualified or not isinstance(node.this, exp.Identifier):
            raise forbidden_error(f"relation {'.'.join(part.name for part in node.parts)}")
        if _relation_key(node.name) not in names:
            if name not in RELATIONS or name in FUNCTIONS:
                raise UnknownRelationError(str(forbidden_error(f"relation {node.name}")))
            self.relations.add(name)


def _require_match(pattern: re.Pattern[str], text: str, kind: str) -> None:
    if not pattern.fullmatch(text):
        raise forbidden_error(f"{kind} {text}")


def _require_query(tree: exp.Expr) -> None:
    """Raise an error if a tree is only an expression, or a SELECT without columns."""
    if not isinstance(tree, (exp.Query, exp.Values)) or (
        isinstance(tree, exp.Select) and not tree.expressions
    ):
        raise forbidden_error(tree.key.upper())


def _fold_case(name: str) -> str:
    """Return a name in lower case, as Spark compares names: for Spark, ſ equals s, and ı and İ equal i."""
    return "".join(char.upper().lower()[:1] for char in name)


def _relation_key(name: str) -> str:
    """Return a key for the name of a relation. Two keys are equal if Spark treats the names as equal."""
    return name.lower() if name.isascii() else name


def _node_title(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).upper()


def forbidden_error(part: str) -> ForbiddenQueryError:
    """Return the error that says which part of a statement is not allowed, and the remedy.

    Parameters
    ----------
    part : str
        The refused part, as typed. In the message, `?` replaces characters that cannot be printed.
    """
    shown = "".join(char if char.isprintable() else "?" for char in part)[:_SHOWN]
    return ForbiddenQueryError(
        f"{shown} is not allowed: a query only reads its warehouse. Allowed are {_STATEMENTS}, with the "
        "relations that SHOW TABLES and SHOW USER FUNCTIONS list, and Spark functions that depend on their "
        "arguments alone. --unsafe runs any statement"
    )
