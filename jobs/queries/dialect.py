"""The SQL that queries are written in: Spark's, parsed and generated without changing what it means.

sqlglot's own Spark dialect translates functions and literals between databases, and what it generates may
have other column names or types. Here every function keeps its name and arguments, every literal its type.
"""

from __future__ import annotations

import logging
import re
from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import trim_sql
from sqlglot.dialects.spark import Spark
from sqlglot.generator import Generator
from sqlglot.generators.spark import SparkGenerator
from sqlglot.parsers.spark import SparkParser

logging.getLogger("sqlglot").disabled = True  # what it warns of is refused, and told as an error
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(L|S|Y|D|F|BD)", re.IGNORECASE)
"""A number with the suffix of its type; without one, sqlglot knows it."""
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([01][0-7]{2})|(.))",
    re.DOTALL,
)
_ESCAPED = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_WRITTEN = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_QUOTED = (TokenType.STRING, TokenType.RAW_STRING)


class TypedLiteral(exp.Expression):
    """A literal with its type before it, as in ``TIMESTAMP '2024-08-09'``."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "kind": True}


class Plus(exp.Unary):
    """A plus sign before a number, which is part of its column's name."""


def string_value(literal: str) -> str:
    """Return the text that a string literal stands for, by the rules of Spark.

    Parameters
    ----------
    literal : str
        As written, with its quotes, and the ``r`` before them if it is raw.
    """
    if literal[0] in "rR":
        return literal[2:-1]
    return _ESCAPE.sub(_unescaped, literal[1:-1])


def string_literal(value: str) -> str:
    """Write a text as a string literal that Spark reads as that text, in printable ASCII.

    Parameters
    ----------
    value : str
        Any text.
    """
    return f"'{''.join(_WRITTEN.get(char) or _written(char) for char in value)}'"


def _unescaped(found: re.Match[str]) -> str:
    short, long, octal, char = found.groups()
    if octal:
        return chr(int(octal, 8))
    if short or long:
        return chr(int(short or long, 16))
    return _ESCAPED.get(char, char)


def _written(char: str) -> str:
    if " " <= char <= "~" and char != "$":  # Spark replaces ${name} before it parses
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _typed_literal(self: SparkParser, this: exp.Expression, kind: exp.DataType) -> TypedLiteral:
    return self.expression(TypedLiteral(this=this, kind=kind))


def _parse_extract(self: SparkParser) -> exp.Extract:
    """Keep the case of the field, which is part of the column's name."""
    field = self._parse_var(any_token=True)
    self._match(TokenType.FROM)
    return self.expression(exp.Extract(this=field, expression=self._parse_bitwise()))


class SparkQuery(Spark):
    """Spark's SQL for queries: tokens as Spark reads them, functions by their own names."""

    NORMALIZE_NOT_NULL = False

    class Tokenizer(Spark.Tokenizer):
        """Leaves a number's suffix to the number, and takes no word for a command."""

        NUMERIC_LITERALS: ClassVar[dict[str, str]] = {}
        COMMANDS: ClassVar[set[TokenType]] = set()

    class Parser(SparkParser):
        """Takes every function by its own name, but for those whose arguments have a syntax of their own."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: SparkParser.FUNCTION_PARSERS[name]
            for name in ("CAST", "TRY_CAST", "TRIM", "SUBSTRING", "OVERLAY")
        } | {"EXTRACT": _parse_extract}
        STRICT_CAST = True  # CAST is no TRY_CAST
        JOINS_HAVE_EQUAL_PRECEDENCE = False  # a comma joins last
        UNARY_PARSERS: ClassVar[dict[Any, Any]] = {
            **SparkParser.UNARY_PARSERS,
            TokenType.PLUS: lambda self: self.expression(Plus(this=self._parse_unary())),
        }
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: SparkParser.NO_PAREN_FUNCTION_PARSERS[name] for name in ("ANY", "CASE")
        }
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {
            TokenType.CURRENT_DATE: lambda: exp.Anonymous(this="current_date"),
            TokenType.CURRENT_TIMESTAMP: lambda: exp.Anonymous(this="current_timestamp"),
        }
        ARRAY_CONSTRUCTORS: ClassVar[dict[str, Any]] = {}  # array(1, 2)[0] takes an element
        TYPE_LITERAL_PARSERS: ClassVar[dict[Any, Any]] = dict.fromkeys(
            (
                exp.DType.DATE,
                exp.DType.TIME,
                exp.DType.TIMESTAMP,
                exp.DType.TIMESTAMPTZ,
                exp.DType.TIMESTAMPLTZ,
                exp.DType.TIMESTAMPNTZ,
            ),
            _typed_literal,
        )

        def _parse_types(self, check_func: bool = False, *options: Any, **named: Any) -> exp.Expr | None:
            """Take `date(…)` for a function at once: trying it as a type doubles the time of each level."""
            if check_func and self._next.token_type is TokenType.L_PAREN:
                return None
            return super()._parse_types(check_func, *options, **named)

    class Generator(SparkGenerator):
        """Writes what was parsed, without the translations of the dialect it is made from."""

        TYPE_MAPPING: ClassVar[dict[Any, str]] = {**SparkGenerator.TYPE_MAPPING, exp.DType.TIME: "TIME"}
        TABLESAMPLE_SEED_KEYWORD = "REPEATABLE"
        EXPRESSIONS_WITHOUT_NESTED_CTES: ClassVar[set[Any]] = set()
        TRANSFORMS: ClassVar[dict[Any, Any]] = {
            **Generator.TRANSFORMS,
            exp.RegexpLike: lambda self, e: self.binary(e, "RLIKE"),
            exp.Trim: trim_sql,
            Plus: lambda self, e: f"+{self.sql(e, 'this')}",
            TypedLiteral: lambda self, e: f"{self.sql(e, 'kind')} {self.sql(e, 'this')}",
            exp.IntDiv: lambda self, e: self.binary(e, "DIV"),
        }

        def literal_sql(self, expression: exp.Literal) -> str:
            """Write a number as it is, a string by the rules of Spark."""
            return string_literal(expression.name) if expression.is_string else expression.name

        def lateral_sql(self, expression: exp.Lateral) -> str:
            """Write a lateral view with its name quoted, as the dialect does not."""
            if not expression.args.get("view"):
                return super().lateral_sql(expression)
            alias = expression.args["alias"]
            outer = " OUTER" if expression.args.get("outer") else ""
            columns = self.expressions(alias, key="columns", flat=True)
            named = f" AS {columns}" if columns else ""
            return f" LATERAL VIEW{outer} {self.sql(expression, 'this')} {self.sql(alias, 'this')}{named}"

    def tokenize(self, sql: str, dialect: Any = None) -> list[Token]:
        """Cut a text into tokens: strings as Spark unescapes and joins them, numbers with their suffixes."""
        tokens: list[Token] = []
        for token in super().tokenize(sql, dialect):
            if token.token_type is TokenType.VAR and _NUMBER.fullmatch(token.text):
                token.token_type = TokenType.NUMBER
            elif token.token_type in _QUOTED:
                token.token_type = TokenType.STRING
                token.text = string_value(sql[token.start : token.end + 1])
                if tokens and tokens[-1].token_type is TokenType.STRING:
                    before = tokens[-1]
                    doubled = sql[before.end] if before.end + 1 == token.start else ""
                    before.text, before.end = f"{before.text}{doubled}{token.text}", token.end
                    continue
            elif (
                token.token_type is TokenType.L_PAREN and tokens[-1:] and tokens[-1].text.upper() == "WINDOW"
            ):
                tokens[-1].token_type = TokenType.VAR  # the function, not the clause
            tokens.append(token)
        return tokens
