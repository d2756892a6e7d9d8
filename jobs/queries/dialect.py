"""SQL dialect of queries: parse Spark SQL, and generate SQL with the meaning of the parsed SQL.

sqlglot's own Spark dialect translates functions and literals between databases. SQL that sqlglot's dialect
generates may therefore return columns with other names or types. In the dialect of this module, every
function keeps its name and its arguments, and every literal keeps its type.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import DialectType, trim_sql
from sqlglot.dialects.spark import Spark
from sqlglot.generator import Generator
from sqlglot.generators.spark import SparkGenerator
from sqlglot.parsers.spark import SparkParser

logging.getLogger("sqlglot").disabled = True  # sqlglot warns only about statements that are refused anyway
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(L|S|Y|D|F|BD)", re.IGNORECASE)
"""Pattern of a number with a type suffix, such as 1.5BD. sqlglot does not parse such numbers."""
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([01][0-7]{2})|(.))",
    re.DOTALL,
)
_ESCAPED = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_WRITTEN = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_QUOTED = (TokenType.STRING, TokenType.RAW_STRING)


class TypedLiteral(exp.Expression):
    """A literal with a type before it, as in ``TIMESTAMP '2024-08-09'``."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "kind": True}


class Plus(exp.Unary):
    """A plus sign before an expression. The sign must be kept: Spark makes it part of the column's name."""


def decode_string(literal: str) -> str:
    """Return the text for which a string literal stands in Spark SQL.

    Parameters
    ----------
    literal : str
        The literal with its quotes. A raw literal has an ``r`` before the quotes.
    """
    if literal[0] in "rR":
        return literal[2:-1]
    return _ESCAPE.sub(_unescape, literal[1:-1])


def encode_string(value: str) -> str:
    """Return a string literal, in printable ASCII, that Spark reads as the given text.

    Parameters
    ----------
    value : str
        Text for which the literal stands.
    """
    return f"'{''.join(_WRITTEN.get(char) or _escape_char(char) for char in value)}'"


def _unescape(match: re.Match[str]) -> str:
    """Return the character for which an escape sequence stands."""
    short, long, octal, char = match.groups()
    if octal:
        return chr(int(octal, 8))
    if short or long:
        return chr(int(short or long, 16))
    return _ESCAPED.get(char, char)


def _escape_char(char: str) -> str:
    """Return the form of a character in a string literal: the character itself, or its escape sequence."""
    if " " <= char <= "~" and char != "$":  # Spark replaces ${name} before it parses
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[start : start + 2].hex()}" for start in range(0, len(units), 2))


def _typed_literal(self: SparkParser, this: exp.Expression, kind: exp.DataType) -> TypedLiteral:
    return self.expression(TypedLiteral(this=this, kind=kind))


def _parse_extract(self: SparkParser) -> exp.Extract:
    """Parse EXTRACT, and keep the case of the field, because Spark shows the field in the column's name."""
    field = self._parse_var(any_token=True)
    self._match(TokenType.FROM)
    return self.expression(exp.Extract(this=field, expression=self._parse_bitwise()))


class SparkQuery(Spark):
    """Spark SQL for queries: the dialect reads tokens as Spark does, and keeps the names of functions."""

    NORMALIZE_NOT_NULL = False

    class Tokenizer(Spark.Tokenizer):
        """Tokenizer that reads a number together with its type suffix, and treats no word as a command."""

        NUMERIC_LITERALS: ClassVar[dict[str, str]] = {}
        COMMANDS: ClassVar[set[TokenType]] = set()

    class Parser(SparkParser):
        """Parser that keeps the names of all functions except those with special syntax, such as CAST."""

        FUNCTIONS: ClassVar[dict[str, Callable[..., exp.Expr]]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., exp.Expr | None]]] = {
            name: SparkParser.FUNCTION_PARSERS[name]
            for name in ("CAST", "TRY_CAST", "TRIM", "SUBSTRING", "OVERLAY")
        } | {"EXTRACT": _parse_extract}
        STRICT_CAST = True  # CAST must not become TRY_CAST
        JOINS_HAVE_EQUAL_PRECEDENCE = False  # a comma between relations binds less tightly than JOIN
        UNARY_PARSERS: ClassVar[dict[TokenType, Callable[..., exp.Expr | None]]] = {
            **SparkParser.UNARY_PARSERS,
            TokenType.PLUS: lambda self: self.expression(Plus(this=self._parse_unary())),
        }
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., exp.Expr | None]]] = {
            name: SparkParser.NO_PAREN_FUNCTION_PARSERS[name] for name in ("ANY", "CASE")
        }
        NO_PAREN_FUNCTIONS: ClassVar[dict[TokenType, Callable[[], exp.Expr]]] = {
            TokenType.CURRENT_DATE: lambda: exp.Anonymous(this="current_date"),
            TokenType.CURRENT_TIMESTAMP: lambda: exp.Anonymous(this="current_timestamp"),
        }
        # Without constructors, array(1, 2)[0] takes an element of the array.
        ARRAY_CONSTRUCTORS: ClassVar[dict[str, type[exp.Func]]] = {}
        TYPE_LITERAL_PARSERS: ClassVar[dict[exp.DType, Callable[..., exp.Expr]]] = dict.fromkeys(
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

        def _parse_types(
            self,
            check_func: bool = False,
            schema: bool = False,
            allow_identifiers: bool = True,
            with_collation: bool = False,
        ) -> exp.Expr | None:
            """Parse `date(…)` as a function without trying to parse a type.

            The base class first tries to parse a type, so each level of nested calls doubles the time.
            """
            if check_func and self._next.token_type is TokenType.L_PAREN:
                return None
            return super()._parse_types(check_func, schema, allow_identifiers, with_collation)

    class Generator(SparkGenerator):
        """Generator that writes the parsed SQL without the translations of the base class."""

        TYPE_MAPPING: ClassVar[dict[exp.DType, str]] = {**SparkGenerator.TYPE_MAPPING, exp.DType.TIME: "TIME"}
        TABLESAMPLE_SEED_KEYWORD = "REPEATABLE"
        EXPRESSIONS_WITHOUT_NESTED_CTES: ClassVar[set[type[exp.Expr]]] = set()
        TRANSFORMS: ClassVar[dict[type[exp.Expr], Callable[..., str]]] = {
            **Generator.TRANSFORMS,
            exp.RegexpLike: lambda self, e: self.binary(e, "RLIKE"),
            exp.Trim: trim_sql,
            Plus: lambda self, e: f"+{self.sql(e, 'this')}",
            TypedLiteral: lambda self, e: f"{self.sql(e, 'kind')} {self.sql(e, 'this')}",
            exp.IntDiv: lambda self, e: self.binary(e, "DIV"),
        }

        def literal_sql(self, expression: exp.Literal) -> str:
            """Return the SQL of a literal: a number unchanged, a string with Spark's escape sequences."""
            return encode_string(expression.name) if expression.is_string else expression.name

        def lateral_sql(self, expression: exp.Lateral) -> str:
            """Return the SQL of a lateral view. The name of the view is quoted, unlike in the base class."""
            if not expression.args.get("view"):
                return super().lateral_sql(expression)
            alias = expression.args["alias"]
            outer = " OUTER" if expression.args.get("outer") else ""
            columns = self.expressions(alias, key="columns", flat=True)
            named = f" AS {columns}" if columns else ""
            return f" LATERAL VIEW{outer} {self.sql(expression, 'this')} {self.sql(alias, 'this')}{named}"

    def tokenize(self, sql: str, dialect: DialectType = None) -> list[Token]:
        """Return the tokens of an SQL text.

        Strings are unescaped, and adjacent strings are joined, as in Spark. Numbers include type suffixes.
        """
        tokens: list[Token] = []
        for token in super().tokenize(sql, dialect):
            if token.token_type is TokenType.VAR and _NUMBER.fullmatch(token.text):
                token.token_type = TokenType.NUMBER
            elif token.token_type in _QUOTED:
                token.token_type = TokenType.STRING
                token.text = decode_string(sql[token.start : token.end + 1])
                if tokens and tokens[-1].token_type is TokenType.STRING:
                    before = tokens[-1]
                    doubled = sql[before.end] if before.end + 1 == token.start else ""
                    before.text, before.end = f"{before.text}{doubled}{token.text}", token.end
                    continue
            elif (
                token.token_type is TokenType.L_PAREN and tokens[-1:] and tokens[-1].text.upper() == "WINDOW"
            ):
                tokens[-1].token_type = TokenType.VAR  # the function `window(…)`, not the clause WINDOW
            tokens.append(token)
        return tokens
