"""Compare the layout of every table with a stored one: a change of the layout needs a new schema version."""

import hashlib

from deltabook.schemas.feeds import FEEDS, feed_of
from deltabook.schemas.names import GAP_LABELS, STATUS_LABELS
from deltabook.schemas.tables import EVENTS, SCHEMA_VERSION, TABLES


def test_unified_event_schema_has_its_columns():
    assert {"timestamp", "event_type", "symbol", "data", "sequence"} <= set(EVENTS.names)


def test_layout_is_that_of_this_schema_version():
    layout = "\n".join(f"{table.name}({table.ddl}) by {table.partition_by}" for table in TABLES.values())
    found = hashlib.sha256(layout.encode()).hexdigest()[:16]
    assert (SCHEMA_VERSION, found) == ("8", "d182136ac20c112d"), "a changed layout needs a new SCHEMA_VERSION"


def test_every_column_says_what_it_holds():
    for table in TABLES.values():
        for column in table.columns:
            assert column.doc.endswith("."), (table.name, column.name)


def test_partition_and_statistics_columns_exist():
    for table in TABLES.values():
        assert set(table.partition_by) | set(table.statistics) <= set(table.names)
        assert not set(table.partition_by) & set(table.statistics)


def test_statuses_rise_from_unseeded_to_verified():
    assert STATUS_LABELS == ("unseeded", "warming", "suspect", "unverifiable", "checked", "verified")
    assert GAP_LABELS == (
        "sequence_gap",
        "unbridgeable_snapshot",
        "trade_gap",
        "missing_snapshot",
        "checksum_failure",
        "quarantined_row",
        "clock_jump",
        "crossed_book",
        "silence",
        "new_session",
        "stranded_level",
        "reseed",
        "restored_level",
    )


def test_feeds_name_their_rules():
    for name, feed in FEEDS.items():
        assert feed.name == name
        assert feed.rules
        assert feed_of(feed.source, (*feed.exchanges, "ANY")[0]) is feed
