"""The suites on hand-made summaries: each rule can fail, alone, and says where."""

import pandas as pd
import pytest

from deltabook.expectations.continuity import judge_continuity
from deltabook.expectations.fidelity import judge_fidelity
from deltabook.expectations.suites import judge

RULES = {
    "gaps": "no gaps",
    "out_of_order": "books in order",
    "crossed": "no crossed books",
    "worse": "no status worse than the feed can prove",
}


def continuity(**counts: int) -> pd.DataFrame:
    clean = {"exchange": "BINANCE", "symbol": "BTCUSDT", "time": "2024-08-09T00:00Z", "unverifiable": 0}
    clean |= dict.fromkeys(RULES, 0)
    return pd.DataFrame([clean, clean | {"time": "2024-08-09T01:00Z"} | counts])


def fidelity(*ratios: float) -> pd.DataFrame:
    row = {"exchange": "BINANCE", "symbol": "BTCUSDT", "time": "2024-08-09T00:00Z", "kind": "book_ticker"}
    return pd.DataFrame([row | {"ratio": ratio, "compared": 1000} for ratio in ratios])


def test_clean_books_pass_every_rule():
    assert {judgement.verdict for judgement in judge_continuity(continuity())} == {"passed"}


def test_unverifiable_rows_of_a_feed_without_ids_pass():
    assert {judgement.verdict for judgement in judge_continuity(continuity(unverifiable=9))} == {"passed"}


@pytest.mark.parametrize(("column", "rule"), RULES.items())
def test_each_rule_fails_alone_and_names_the_symbol_hour(column, rule):
    judged = {judgement.expectation: judgement for judgement in judge_continuity(continuity(**{column: 3}))}
    assert judged.pop(rule).observed == "BINANCE BTCUSDT 2024-08-09T01:00Z: 3"
    assert {judgement.verdict for judgement in judged.values()} == {"passed"}


@pytest.mark.parametrize(("ratios", "verdict"), [((0.9991, 1.0), "passed"), ((1.0, 0.999), "failed")])
def test_match_ratio_must_be_above_the_least(ratios, verdict):
    assert judge_fidelity(fidelity(*ratios), 0.999)[0].verdict == verdict


def test_nan_ratio_does_not_pass():
    assert "failed" in {judgement.verdict for judgement in judge_fidelity(fidelity(float("nan"), 1.0), 0.999)}


def test_no_golden_rows_are_no_pass():
    assert {judgement.verdict for judgement in judge_fidelity(fidelity(), 0.999)} == {"none"}


def test_expectation_that_cannot_be_evaluated_is_errored_not_failed():
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    rule = ExpectColumnValuesToBeBetween(column="nowhere", min_value=0)
    assert [judgement.verdict for judgement in judge("suite", continuity(), {"rule": rule})] == ["errored"]
