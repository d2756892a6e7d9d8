"""Schemas of the tables that say how well books match golden rows, and which checks passed."""

from __future__ import annotations

from dataclasses import replace

from deltabook.schemas.columns import (
    EPOCH,
    EXCHANGE,
    HOUR,
    RECEIVED,
    SIDES,
    SYMBOL,
    TIMESTAMP,
    Column,
    Table,
)

_OF_GOLDEN = (
    EXCHANGE,
    SYMBOL,
    Column("hour", "BIGINT", "Start of the chunk, ns since 1970 UTC; -1: all chunks of the symbol together."),
    Column("kind", "STRING", "Kind of the golden rows that were compared."),
    Column("metric", "STRING", "Quantity that was compared: match, price_match, spread, mid_return, …."),
    Column("level", "BIGINT", "Level of the book, from 1; 0: the metric belongs to no level."),
)

FIDELITY = Table(
    "fidelity",
    "One comparison of rebuilt books with golden rows, for one symbol-hour or for the whole symbol.",
    (
        Column("run_id", "STRING", "The run that measured it."),
        *_OF_GOLDEN,
        Column("compared", "BIGINT", "Books compared, or samples a side."),
        Column("matched", "BIGINT", "Books equal in every compared price and size; -1 for a distribution."),
        Column("value", "DOUBLE", "Share that matches, mean or parameter, for rebuilt books; NaN if none."),
        Column("golden_value", "DOUBLE", "Mean or parameter for golden rows; NaN if none."),
        Column("statistic", "DOUBLE", "Kolmogorov-Smirnov statistic D; NaN if not tested."),
        Column("p_value", "DOUBLE", "p-value of the Kolmogorov-Smirnov test; NaN if not tested."),
        Column(
            "adjusted_p", "DOUBLE", "p after Holm's correction among the symbol-hour's tests; NaN if none."
        ),
        Column("distance", "DOUBLE", "Wasserstein-1, in the metric's unit; NaN if not measured."),
        Column("low", "DOUBLE", "Lower end of the 95 % interval of value - golden_value; NaN if none."),
        Column("high", "DOUBLE", "Upper end of that interval, by block bootstrap; NaN if none."),
        Column("verdict", "STRING", "passed, failed, none (no golden rows), or reported (cannot fail)."),
        Column("unverifiable", "BIGINT", "Books compared whose status is `unverifiable`."),
        Column("first_divergence", "BIGINT", "Least sequence that did not match; -1 if none."),
    ),
)

SAMPLES = Table(
    "samples",
    "The samples of one distribution in `fidelity`. They are so far apart in time that they are independent.",
    (
        *_OF_GOLDEN,
        Column("rebuilt", "ARRAY<DOUBLE>", "Samples of rebuilt books, in the metric's unit, by time."),
        Column("golden", "ARRAY<DOUBLE>", "Samples of golden books at the same times."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
)

MISMATCHES = Table(
    "mismatches",
    "One rebuilt book that differs from its golden row, with the levels of both to the compared depth.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("kind", "STRING", "Kind of golden row."),
        EPOCH,
        Column("sequence", "BIGINT", "Update id of the book and the golden row."),
        TIMESTAMP,
        RECEIVED,
        Column("level", "BIGINT", "First level that differs on either side, from 1."),
        Column(
            "wrong",
            "STRING",
            "Side that the exchange's tickers or checksums contradict: book or recording; empty: undecided.",
        ),
        *SIDES,
        *(replace(side, name=f"golden_{side.name}", doc=f"Golden: {side.doc}") for side in SIDES),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "sequence"),
    layout=8,
)

VERDICTS = Table(
    "verdicts",
    "The current verdict of one suite on one symbol-hour.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("suite", "STRING", "raw, events, books or fidelity."),
        Column("verdict", "STRING", "passed, failed, errored, or none (nothing to compare with)."),
        Column(
            "reasons", "STRING", "The expectations that failed, with the observed counts; empty if none did."
        ),
        Column(
            "hides",
            "BOOLEAN",
            "True: books that no status marks may be wrong. Views leave out the whole symbol-hour.",
        ),
        Column("counts", "MAP<STRING, BIGINT>", "The counts that the suite evaluated."),
        Column("fingerprint", "STRING", "Hash of the data files and settings that were evaluated."),
        Column("run_id", "STRING", "Run that evaluated it."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
    layout=8,
)

VALIDATIONS = Table(
    "validations",
    "One expectation's result in one run.",
    (
        Column("run_id", "STRING", "Run that evaluated it."),
        Column("suite", "STRING", "raw, events, books or fidelity."),
        Column("expectation", "STRING", "What must hold."),
        Column("verdict", "STRING", "passed, failed, errored, or none."),
        Column("observed", "STRING", "The symbol-hours that failed, or the reason of an error."),
        Column("rows", "BIGINT", "Number of summary rows that were evaluated."),
    ),
)
