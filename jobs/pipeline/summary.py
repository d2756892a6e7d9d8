"""The summary of a run: its typed keys, and the lines that a command prints from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

THIS_RUN, WAREHOUSE, PROBLEMS = "this run", "the warehouse", "problems"
"""Scopes of summary lines, in the order in which they are printed.

A line is about the present run, about the whole warehouse, or about a problem.
"""


class GoldenMatches(TypedDict):
    """Number of books that were compared with golden rows, that were equal, and that were left out.

    The keys of `left_out` are reasons, of `schemas.names.SKIPPED`.
    """

    compared: int
    matched: int
    left_out: dict[str, int]


class JobSummary(TypedDict, total=False):
    """Counts, durations and verdicts of one job, or of several jobs merged.

    Each job sets only its own keys. Commands print the summary as JSON, and runs store it in `runs.summary`.
    The schema `conf/output.schema.json` describes each key. The items of `refused` and `refused_before` have
    the fields of `RefusedFile`.
    """

    files_new: int
    files_known: int
    files_replaced: int
    files_waiting: int
    refused: list[dict[str, str]]
    passed_over: list[dict[str, str]]
    taken_for: dict[str, int]
    lines: dict[str, int]
    refused_before: list[dict[str, str]]
    files_read: int
    events: int
    level_changes: int
    trades: int
    trades_skipped: int
    golden: int
    quarantined: int
    decimal_instruments: list[str]
    ingest_seconds: float
    ingest_events_per_second: int
    ledger_of: str
    symbol_hours: int
    symbol_hours_rebuilt: int
    book_rows: dict[str, int]
    gaps: int
    gaps_by_kind: dict[str, int]
    coverage: dict[str, float]
    reconstruct_seconds: float
    verdicts: dict[str, str]
    failures: list[str]
    symbol_hours_failed: int
    symbol_hours_left_out: int
    symbol_hours_failed_now: list[str]
    golden_matches: dict[str, GoldenMatches]
    distribution_tests: dict[str, int]
    unverifiable_rows: int
    crossed: int
    validate_seconds: float
    report: str
    drifts: list[str]
    run_id: str
    run_ids: dict[str, str]
    stages: dict[str, float]
    peak_memory: dict[str, int | None]
    error: str
    exit_status: int


class SummaryLine(NamedTuple):
    """One line of a summary.

    Attributes
    ----------
    scope : str
        `THIS_RUN`, `WAREHOUSE` or `PROBLEMS`.
    name : str
        Label at the start of the line, such as "messages".
    text : str
        Rest of the line, such as the counts.
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


def summary_lines(summary: JobSummary) -> Iterator[SummaryLine]:
    """Yield the lines to print for a summary: this run first, then the whole warehouse, then problems.

    Parameters
    ----------
    summary : JobSummary
        Merged summary of all jobs that ran.

    Yields
    ------
    SummaryLine
        One line. Jobs that did not run have no lines.
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


def _describe_reading(summary: JobSummary) -> Iterator[SummaryLine]:
    """Yield lines about the files and messages that this run has read."""
    yield SummaryLine(
        THIS_RUN,
        "files",
        f"{summary['files_read']:,} read, {summary['files_known']:,} already known, "
        f"{len(summary['refused']):,} refused",
    )
    if summary["taken_for"]:
        read_as = ", ".join(f"{count:,} as {name}" for name, count in summary["taken_for"].items())
        yield SummaryLine(THIS_RUN, "", f"recognized by content: {read_as}")
    for file in summary["passed_over"]:
        yield SummaryLine(THIS_RUN, "", f"passed over: {file['path']} is no data")
    others = {kind: count for kind, count in summary["lines"].items() if kind != "taken"}
    if summary["lines"]:
        shown = f"; not taken: {_join_counts(others)}" if others else ""
        taken = summary["lines"].get("taken", 0)
        yield SummaryLine(THIS_RUN, "lines", f"{sum(summary['lines'].values()):,}, {taken:,} taken{shown}")
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


def _describe_books(summary: JobSummary) -> Iterator[SummaryLine]:
    """Yield lines about the books, gaps and coverage of the whole warehouse."""
    rows = _join_counts(summary["book_rows"])
    chunks = summary["symbol_hours"]
    yield SummaryLine(WAREHOUSE, "books", f"{rows} rows in {chunks:,} chunks" if rows else "none")
    yield SummaryLine(WAREHOUSE, "gaps", _join_counts(summary["gaps_by_kind"]) or "none")
    shares = ", ".join(f"{share:.2%} {status}" for status, share in summary["coverage"].items())
    yield SummaryLine(WAREHOUSE, "coverage", f"{shares} of the recorded time" if shares else "none")


def _describe_checks(summary: JobSummary) -> Iterator[SummaryLine]:
    """Yield lines about comparisons with golden rows, distribution tests and verdicts."""
    for kind, match in summary.get("golden_matches", {}).items():
        matched, compared = match["matched"], match["compared"]
        text = f"{kind}: {matched:,} of {compared:,} books equal ({matched / compared:.4%})"
        left_out = f"; not compared: {_join_counts(match['left_out'])}" if match["left_out"] else ""
        yield SummaryLine(WAREHOUSE, "golden", text + left_out)
    if (tests := summary.get("distribution_tests", {})).get("tested"):
        text = f"{tests['passed']:,} of {tests['tested']:,} Kolmogorov-Smirnov tests passed"
        yield SummaryLine(WAREHOUSE, "distribution", text)
    if "verdicts" in summary:
        verdicts = ", ".join(f"{suite} {verdict}" for suite, verdict in summary["verdicts"].items())
        text = f"{verdicts}; {summary['unverifiable_rows']:,} unverifiable rows of books"
        yield SummaryLine(WAREHOUSE, "verdict", text)


def _describe_problems(summary: JobSummary) -> Iterator[SummaryLine]:
    for drift in summary.get("drifts", []):
        yield SummaryLine(PROBLEMS, "drift", drift)
    if failed := summary.get("symbol_hours_left_out"):
        text = f"{failed:,} chunks from the views book and trades; book_all and trades_all have them"
        yield SummaryLine(PROBLEMS, "left out", text)
    for refused in summary.get("refused", []):
        yield SummaryLine(PROBLEMS, "refused", f"{refused['path']}: {refused['reason']}")
    for failure in summary.get("failures", []):
        yield SummaryLine(PROBLEMS, "failed", failure)


def _join_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
