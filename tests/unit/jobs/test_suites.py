"""Run the suites on small summaries: each rule can fail alone, and a failed rule names the chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from deltabook.expectations.books import judge_books
from deltabook.expectations.events import judge_events
from deltabook.expectations.fidelity import judge_fidelity
from deltabook.expectations.raw import judge_raw
from deltabook.expectations.suites import Judgement, expect_zero, judge

HOUR = {"exchange": "BINANCE", "symbol": "BTC-USDT", "hour": 0, "time": "1970-01-01T00:00:00Z"}
LATER = HOUR | {"hour": 3600, "time": "1970-01-01T01:00:00Z"}


def of_raw(summary: pd.DataFrame) -> list[Judgement]:
    return judge_raw(summary, most_late=0.001, most_untimed=0.01)


SUITES: list[tuple[Callable[..., list[Judgement]], dict[str, str]]] = [
    (
        of_raw,
        {
            "out_of_range": "prices and sizes in range",
            "damaged": "no part that could not be read",
            "late": "no more than 0.10% of messages late",
            "untimed": "no more than 1.00% without an origin time",
            "regressing": "no more than 1.00% of origin times fall back",
        },
    ),
    (
        judge_events,
        {
            "gaps": "no gaps",
            "trade_gaps": "no missing trades",
            "unordered": "ids ascend",
            "out_of_time": "order times ascend",
        },
    ),
    (
        judge_books,
        {
            "out_of_order": "books in order",
            "crossed_unmarked": "no crossed books",
            "not_monotone": "prices worse level by level",
            "not_positive": "prices and sizes above zero",
            "worse": "no status worse than the feed can prove",
        },
    ),
]
RULES = [(suite, column, rule, rules) for suite, rules in SUITES for column, rule in rules.items()]


@pytest.mark.parametrize(("suite", "rules"), SUITES)
def test_clean_summaries_pass_every_rule(suite: Any, rules: dict[str, str]) -> None:
    clean = dict.fromkeys(rules, 0)
    assert [(one.expectation, one.verdict) for one in suite(pd.DataFrame([HOUR | clean]))] == [
        (rule, "passed") for rule in rules.values()
    ]


@pytest.mark.parametrize(("suite", "column", "rule", "rules"), RULES)
def test_each_rule_fails_alone_and_names_the_symbol_hour(
    suite: Any, column: str, rule: str, rules: dict[str, str]
) -> None:
    clean = dict.fromkeys(rules, 0)
    judged = {
        one.expectation: one for one in suite(pd.DataFrame([HOUR | clean, LATER | clean | {column: 1}]))
    }
    failed = judged.pop(rule)
    assert failed.observed == "BINANCE BTC-USDT 1970-01-01T01:00:00Z: 1"
    assert failed.failed == {("BINANCE", "BTC-USDT", 3600): "1"}
    assert {one.verdict for one in judged.values()} == {"passed"}


@pytest.mark.parametrize(("column", "most"), [("late", 0.001), ("untimed", 0.01), ("regressing", 0.01)])
def test_shares_may_be_as_large_as_the_settings_say(column: str, most: float) -> None:
    clean = dict.fromkeys(SUITES[0][1], 0.0)
    for share, verdicts in ((most, {"passed"}), (most * 1.01, {"passed", "failed"})):
        assert {one.verdict for one in of_raw(pd.DataFrame([HOUR | clean | {column: share}]))} == verdicts


@pytest.mark.parametrize(("suite", "rules"), SUITES)
def test_a_suite_that_saw_no_rows_is_errored(suite: Any, rules: dict[str, str]) -> None:
    judged = suite(pd.DataFrame(columns=[*HOUR, *rules]))
    assert {(one.verdict, one.observed) for one in judged} == {("errored", "no rows to judge")}


def matches(*ratios: float) -> pd.DataFrame:
    return pd.DataFrame(
        [HOUR | {"of": "book_ticker", "ratio": ratio} for ratio in ratios], columns=[*HOUR, "of", "ratio"]
    )


def of_tests(**found: float) -> pd.DataFrame:
    return pd.DataFrame(
        [HOUR | {"of": f"book_ticker {metric}", "adjusted_p": p} for metric, p in found.items()],
        columns=[*HOUR, "of", "adjusted_p"],
    )


@pytest.mark.parametrize(("ratios", "verdict"), [((0.9991, 1.0), "passed"), ((1.0, 0.999), "failed")])
def test_match_ratio_must_be_above_the_least(ratios: tuple[float, ...], verdict: str) -> None:
    assert judge_fidelity(matches(*ratios), of_tests(), 0.999)[0].verdict == verdict


@pytest.mark.parametrize(("p", "verdict"), [(0.0501, "passed"), (0.05, "failed")])
def test_p_must_be_above_the_significance(p: float, verdict: str) -> None:
    judged = judge_fidelity(matches(1.0), of_tests(spread=1.0, ofi=p), 0.999)
    assert [one.verdict for one in judged] == ["passed", "passed", verdict, "passed"]
    seen = f"BINANCE BTC-USDT 1970-01-01T00:00:00Z: book_ticker ofi: {p}"
    assert judged[2].observed == (seen if verdict == "failed" else "")


def test_what_is_no_number_does_not_pass() -> None:
    nan = float("nan")
    judged = judge_fidelity(matches(nan, 1.0), of_tests(spread=nan), 0.999)
    assert [one.verdict for one in judged] == ["passed", "failed", "passed", "failed"]


def test_no_golden_rows_are_no_pass() -> None:
    assert {one.verdict for one in judge_fidelity(matches(), of_tests(), 0.999)} == {"none"}


def test_expectation_that_cannot_be_evaluated_is_errored_not_failed() -> None:
    judged = judge("suite", pd.DataFrame([HOUR]), {"rule": expect_zero("nowhere")})
    assert [one.verdict for one in judged] == ["errored"]
