"""What a query may do: read the relations of its warehouse, and nothing else."""

from __future__ import annotations

import re

from deltabook.schemas.errors import DeltabookError

_READING = ("select", "with", "from", "values", "table", "describe", "show", "explain")
_WRITING = ("insert", "update", "delete", "merge")
"""What may follow `WITH …` and `FROM …`."""
_OUTSIDE = (
    *("reflect", "java_method", "try_reflect"),  # call whatever the JVM has
    *("table_changes", "table_changes_by_path"),  # read any Delta table by its path
)
_FIRST = re.compile(r"\A[\s(]*(\w*)")
_WORD = re.compile(r"\w+")
_SCRIPT = re.compile(r"\busing\b(?!\s*\()", re.IGNORECASE)
"""`TRANSFORM … USING 'program'`; a join's USING has a parenthesis."""


class ForbiddenQueryError(DeltabookError):
    """The query would do more than read the warehouse's relations."""


def require_reading(text: str) -> None:
    """Refuse what does more than read. That a path is no relation is Spark's to hold (`runSQLOnFiles`).

    Words count wherever they stand, in comments and texts too: to tell those apart as Spark does takes its
    parser, and what is hidden in one from another parser would pass.

    Parameters
    ----------
    text : str
        The query.

    Raises
    ------
    ForbiddenQueryError
        If it may do more; tells what, and the remedy.
    """
    found = _FIRST.match(text.lower())
    first = found[1] if found else ""
    if first not in _READING:
        raise _forbidden(f"{first.upper() or 'a comment'} at the beginning")
    refused = {*_OUTSIDE}
    if first in ("with", "from"):
        refused |= {*_WRITING}
    if first == "describe":
        refused |= {"history", "detail"}  # of any path
    if others := refused & {*_WORD.findall(text.lower())}:
        raise _forbidden(min(others).upper())
    if _SCRIPT.search(text):
        raise _forbidden("USING without a parenthesis")


def _forbidden(what: str) -> ForbiddenQueryError:
    return ForbiddenQueryError(
        f"{what}: a query reads its warehouse alone, and begins with {', '.join(_READING).upper()}; "
        "--unsafe lifts that"
    )
