"""The short summary that a person reads at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

THIS_RUN, WAREHOUSE, PROBLEMS = "this run", "the warehouse", "problems"
"""The scopes of summary lines: what a line is about. Lines are printed in this order of scopes."""


class SummaryLine(NamedTuple):
    """One line of a summary.

    Attributes
    ----------
    scope : str
        `THIS_RUN`, `WAREHOUSE` or `PROBLEMS`.
    name : str
        What the line counts, such as "messages".
    text : str
        The counts, as text.
    """

    scope: str
    name: str
    text: str

    @property
    def is_problem(self) -> bool:
        """Whether the line reports a problem."""
        return self.scope == PROBLEMS

    def __str__(self) -> str:
        return f"{self.name:<12} {self.text}"


def summary_lines(summary: dict[str, Any]) -> Iterator[SummaryLine]:
    """Yield the lines of a summary: this run first, then the whole warehouse, then problems.

    Parameters
    ----------
    summary : dict
        Merged summaries of the jobs.

    Yields
    ------
    SummaryLine
        One line of the summary. Jobs that did not run have no lines.
    """
    if "files_new" in summary:
        yield from _describe_reading(summary)
    if "symbol_hours_rebuilt" in summary:
        rebuilt, chunks = summary["symbol_hours_rebuilt"], summary["symbol_hours"]
        yield SummaryLine(THIS_RUN, "rebuilt", f"{rebuilt:,} of {chunks:,} chunks")
    if "report" in summary:
        yield SummaryLine(THIS_RUN, "report", summary["report"])
    if "book_rows" in summary:
        yield from _describe_books(summary)
    yield from _describe_checks(summary)
    yield from _describe_problems(summary)


def _describe_reading(summary: dict[str, Any]) -> Iterator[SummaryLine]:
    yield SummaryLine(
        THIS_RUN,
        "files",
        f"{summary['files_read']:,} read, {summary['files_known']:,} already known, "
        f"{len(summary['refused']):,} refused",
    )
    yield SummaryLine(
        THIS_RUN,
        "messages",
        f"{summary['events']:,} ({summary['level_changes']:,} level changes, {summary['trades']:,} trades), "
        f"{summary['quarantined']:,} lines in quarantine",
    )
    if summary["trades_skipped"]:
        yield SummaryLine(
            THIS_RUN,
            "",
            f"{summary['trades_skipped']:,} trades skipped: their instrument takes its trades from the other "
            "stream (trade or aggTrade)",
        )
    for instrument in summary["decimal_instruments"]:
        text = f"{instrument} needs DECIMAL(38,18): see tables events_decimal and books_decimal"
        yield SummaryLine(THIS_RUN, "decimals", text)


def _describe_books(summary: dict[str, Any]) -> Iterator[SummaryLine]:
    rows = _join_counts(summary["book_rows"])
    chunks = summary["symbol_hours"]
    yield SummaryLine(WAREHOUSE, "books", f"{rows} rows in {chunks:,} chunks" if rows else "none")
    yield SummaryLine(WAREHOUSE, "gaps", _join_counts(summary["gaps_by_kind"]) or "none")
    shares = ", ".join(f"{share:.2%} {status}" for status, share in summary["coverage"].items())
    yield SummaryLine(WAREHOUSE, "coverage", f"{shares} of the recorded time" if shares else "none")


def _describe_checks(summary: dict[str, Any]) -> Iterator[SummaryLine]:
    for kind, match in summary.get("golden_matches", {}).items():
        matched, compared = match["matched"], match["compared"]
        text = f"{kind}: {matched:,} of {compared:,} books equal ({matched / compared:.4%})"
        yield SummaryLine(WAREHOUSE, "golden", text)
    if (tests := summary.get("distribution_tests", {})).get("tested"):
        text = f"{tests['passed']:,} of {tests['tested']:,} Kolmogorov-Smirnov tests passed"
        yield SummaryLine(WAREHOUSE, "distribution", text)
    if "verdicts" in summary:
        verdicts = ", ".join(f"{suite} {verdict}" for suite, verdict in summary["verdicts"].items())
        text = f"{verdicts}; {summary['unverifiable_rows']:,} unverifiable rows of books"
        yield SummaryLine(WAREHOUSE, "verdict", text)


def _describe_problems(summary: dict[str, Any]) -> Iterator[SummaryLine]:
    for drift in summary.get("drifts", []):
        yield SummaryLine(PROBLEMS, "drift", drift)
    if failed := summary.get("symbol_hours_failed"):
        text = f"{failed:,} chunks from the views book and trades; book_all and trades_all have them"
        yield SummaryLine(PROBLEMS, "left out", text)
    for refused in summary.get("refused", []):
        yield SummaryLine(PROBLEMS, "refused", f"{refused['path']}: {refused['reason']}")
    for failure in summary.get("failures", []):
        yield SummaryLine(PROBLEMS, "failed", failure)


def _join_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
