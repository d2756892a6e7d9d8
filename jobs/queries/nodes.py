"""Nodes that the syntax tree of a query may contain, and the arguments that each kind of node may have."""

from __future__ import annotations

import re

from sqlglot import exp

from deltabook.jobs.queries.dialect import Plus, TypedLiteral

_BINARY = (
    *(exp.Add, exp.Sub, exp.Mul, exp.IntDiv, exp.Mod, exp.And, exp.Or),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ),
    *(exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseLeftShift, exp.BitwiseRightShift),
    *(exp.RegexpLike, exp.Escape, exp.Collate, exp.Kwarg, exp.Filter, exp.WithinGroup, exp.IntervalSpan),
)
_UNARY = (
    *(exp.Not, exp.Neg, Plus, exp.BitwiseNot, exp.Paren, exp.Exists, exp.Any, exp.All),
    *(exp.From, exp.Where, exp.Having, exp.IgnoreNulls, exp.RespectNulls, exp.Qualify),
    *(exp.Boolean, exp.Var, exp.HexString, exp.DataTypeParam),
)
_LISTS = (
    *(exp.Tuple, exp.Order, exp.Sort, exp.Cluster, exp.Distribute, exp.Distinct, exp.Hint),
    *(exp.Cube, exp.Rollup, exp.GroupingSets),
)
_SET_OPERATIONS = (exp.Union, exp.Intersect, exp.Except)

_OTHERS: dict[type[exp.Expr], str] = {
    exp.Select: "with_ hint distinct expressions from_ joins laterals where group having qualify windows "
    "order sort cluster distribute limit offset",
    exp.Subquery: "with_ this alias pivots sample joins laterals order limit offset",
    exp.With: "expressions recursive",
    exp.CTE: "this alias",
    exp.TableAlias: "this columns",
    exp.Table: "this alias sample pivots joins laterals",
    exp.Values: "expressions alias pivots",
    exp.Lateral: "this alias view outer",
    exp.Join: "this on using kind side method pivots",
    exp.Pivot: "expressions fields unpivot include_nulls alias",
    exp.PivotAlias: "this alias",
    exp.TableSample: "percent size seed bucket_numerator bucket_denominator",
    exp.Group: "expressions all cube rollup grouping_sets",
    exp.Ordered: "this desc nulls_first",
    exp.Limit: "expression",
    exp.Offset: "expression",
    exp.Window: "this alias partition_by order spec over",
    exp.WindowSpec: "kind start start_side end end_side",
    exp.Star: "except_",
    exp.Column: "this table db catalog",
    exp.Dot: "this expression",
    exp.Identifier: "this quoted",
    exp.Literal: "this is_string",
    exp.Null: "",
    exp.Alias: "this alias",
    exp.Aliases: "this expressions",
    exp.Anonymous: "this expressions",
    exp.Bracket: "this expressions",
    exp.Lambda: "this expressions",
    exp.Between: "this low high",
    exp.In: "this expressions query field",
    exp.Is: "this expression negate",
    exp.Like: "this expression negate",
    exp.ILike: "this expression negate",
    exp.Div: "this expression typed safe",
    exp.DPipe: "this expression safe",
    exp.Case: "this ifs default",
    exp.If: "this true false",
    exp.Cast: "this to",
    exp.TryCast: "this to safe",
    exp.Extract: "this expression",
    exp.Trim: "this expression position",
    exp.Substring: "this start length",
    exp.Overlay: "this expression from_ for_",
    exp.Interval: "this unit",
    exp.DataType: "this expressions nested",
    exp.ColumnDef: "this kind",
    TypedLiteral: "this kind",
}
ALLOWED_ARGUMENTS: dict[type[exp.Expr], frozenset[str]] = {
    **dict.fromkeys(_BINARY, frozenset(("this", "expression"))),
    **dict.fromkeys(_UNARY, frozenset(("this",))),
    **dict.fromkeys(_LISTS, frozenset(("expressions",))),
    **dict.fromkeys(
        _SET_OPERATIONS,
        frozenset(("this", "expression", "distinct", "with_", "order", "limit", "offset")),
    ),
    **{kind: frozenset(arguments.split()) for kind, arguments in _OTHERS.items()},
}
"""Maps each allowed class of node to the names of allowed arguments. Unset arguments are always allowed."""

ALLOWED_TYPES = frozenset(
    (
        *(exp.DType.BOOLEAN, exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT),
        *(exp.DType.FLOAT, exp.DType.DOUBLE, exp.DType.DECIMAL, exp.DType.TEXT, exp.DType.BINARY),
        *(exp.DType.DATE, exp.DType.TIME, exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ),
        *(exp.DType.TIMESTAMPLTZ, exp.DType.TIMESTAMPNTZ, exp.DType.VARIANT, exp.DType.NULL),
        *(exp.DType.ARRAY, exp.DType.MAP, exp.DType.STRUCT, exp.DType.INTERVAL),
    )
)
"""Data types that casts and literals may have."""

_WORDS = """
ALL YEAR YEARS YEAROFWEEK QUARTER QUARTERS MONTH MONTHS WEEK WEEKS DAY DAYS DAYOFWEEK DAYOFWEEK_ISO
DAYOFYEAR DOW DOW_ISO DOY HOUR HOURS MINUTE MINUTES SECOND SECONDS MILLISECOND MILLISECONDS MICROSECOND
MICROSECONDS
"""
WORDS = frozenset(_WORDS.split())
"""Allowed words without quotes: units of time, fields of time, and ALL."""
COLLATION = re.compile(r"(UTF8_BINARY|UTF8_LCASE|UNICODE)(_(CI|CS|AI|AS|RTRIM))*", re.IGNORECASE | re.ASCII)
"""Pattern of the allowed collations."""
