"""The short summary that a person reads at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a summary.

    Parameters
    ----------
    summary : dict
        What the jobs returned, merged.

    Yields
    ------
    str
        One line each for the files, events, books, golden matches and verdicts; then every failure.
    """
    if "files_new" in summary:
        yield (
            f"files        {summary['files_read']:,} read, {summary['files_known']:,} known already, "
            f"{len(summary['refused']):,} refused"
        )
        changes, trades = summary["level_changes"], summary["trades"]
        yield (
            f"events       {changes + trades:,} ({changes:,} level changes, {trades:,} trades), "
            f"{summary['quarantined']:,} lines in quarantine"
        )
        if summary["trades_skipped"]:
            yield (
                f"             {summary['trades_skipped']:,} trades skipped: their instrument's trades come "
                "from the other of the streams trade and aggTrade"
            )
        for instrument in summary["decimal_instruments"]:
            yield f"decimals     {instrument}: its numbers need DECIMAL(38,18): events_decimal, books_decimal"
    if "book_rows" in summary:
        rows = ", ".join(f"{count:,} {status}" for status, count in summary["book_rows"].items()) or "none"
        yield f"books        {rows}; {summary['symbol_hours']:,} symbol-hours"
        gaps = ", ".join(f"{count:,} {kind}" for kind, count in summary["gaps_by_kind"].items()) or "none"
        yield f"gaps         {gaps}"
        covered = ", ".join(f"{share:.2%} {status}" for status, share in summary["coverage"].items())
        yield f"coverage     {covered or 'none'} of the time"
    for kind, match in summary.get("golden_matches", {}).items():
        share = match["matched"] / match["compared"]
        yield f"golden       {kind}: {match['matched']:,} of {match['compared']:,} equal ({share:.4%})"
    if (tests := summary.get("distribution_tests", {})).get("tested"):
        yield f"distribution {tests['passed']:,} of {tests['tested']:,} Kolmogorov-Smirnov tests passed"
    if "verdicts" in summary:
        verdicts = ", ".join(f"{suite} {verdict}" for suite, verdict in summary["verdicts"].items())
        yield f"verdict      {verdicts}; {summary['unverifiable_rows']:,} book rows unverifiable"
    if "report" in summary:
        yield f"report       {summary['report']}"
    for drift in summary.get("drifts", []):
        yield f"drift        {drift}"
    if failed := summary.get("symbol_hours_failed"):
        yield (
            f"left out     {failed:,} symbol-hours from the views book and trades; book_all and trades_all "
            "have them"
        )
    for refused in summary.get("refused", []):
        yield f"refused      {refused['path']}: {refused['reason']}"
    for failure in summary.get("failures", []):
        yield f"failed       {failure}"
