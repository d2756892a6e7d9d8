"""The oracle of feeds with their own snapshots: small feeds test each rule, and venues' checksums match."""

import ast
import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from naive import Levels
from naive_feeds import (
    Gap,
    Message,
    Side,
    State,
    kraken_checksum,
    okx_checksum,
    printed,
    rebuild,
)

Feeds = dict[str, list[tuple[int, Message]]]  # by instrument: (time as printed or 0, message)


def levels(text: str) -> Levels:
    """Read `price:size` words."""
    pairs = (word.split(":") for word in text.split())
    return tuple((Decimal(price), Decimal(size)) for price, size in pairs)


def side(text: str) -> Side:
    return dict(levels(text))


def snapshot(sequence: int = -1, bids: str = "10:1", asks: str = "11:1", **more: Any) -> Message:
    return Message(is_snapshot=True, sequence=sequence, bids=levels(bids), asks=levels(asks), **more)


def diff(sequence: int = -1, bids: str = "", asks: str = "", **more: Any) -> Message:
    return Message(sequence=sequence, bids=levels(bids), asks=levels(asks), **more)


def linked(previous: int, sequence: int, bids: str = "", **more: Any) -> Message:
    return diff(sequence, bids, prev_sequence=previous, has_ids=True, **more)


def statuses(states: list[State]) -> list[str]:
    return [state.status for state in states]


def applied(states: list[State]) -> list[bool]:
    return [state.applied for state in states]


def test_nothing_is_shown_or_applied_or_broken_before_the_first_snapshot() -> None:
    before = [linked(3, 9, "10:1", damaged=True, checksum=1), linked(1, 2)]
    for state in rebuild(before, "linked", "okx"):
        assert (state.applied, state.status, state.bids, state.asks) == (False, "unseeded", {}, {})
        assert (state.gaps, state.checksum_verdict, state.snapshot_verdict) == ((), None, None)


def test_snapshot_drops_what_came_before_it() -> None:
    states = list(rebuild([diff(bids="9:1"), snapshot(), diff(bids="8:1"), snapshot(asks="12:3")]))
    assert states[1].bids == side("10:1")
    assert states[2].bids == side("10:1 8:1")
    assert (states[3].bids, states[3].asks) == (side("10:1"), side("12:3"))


def test_levels_are_absolute_and_applied_in_order_and_zero_deletes() -> None:
    *_, last = rebuild([snapshot(), diff(bids="10:2 9:1 9:0.0 8:3 8:4 7:0", asks="11:0")])
    assert (last.bids, last.asks) == (side("10:2 8:4"), {})
    assert last.status == "unverifiable"


def test_each_side_is_cut_to_the_best_levels_kept_after_the_whole_message() -> None:
    first = snapshot(bids="8:1 10:1 9:1", asks="13:1 11:1 12:1", kept_levels=2)
    second = diff(bids="11:1 10:0", asks="10.5:1", kept_levels=2)
    third = diff(bids="11:0", kept_levels=2)
    states = list(rebuild([first, second, third]))
    assert [state.bids for state in states] == [side("10:1 9:1"), side("11:1 9:1"), side("9:1")]
    assert [state.asks for state in states] == [side("11:1 12:1"), side("10.5:1 11:1"), side("10.5:1 11:1")]


def test_earlier_states_do_not_change_later() -> None:
    states = list(rebuild([snapshot(), diff(bids="9:1", damaged=True), snapshot(7)]))
    assert states[0].bids == side("10:1")
    assert (states[1].gaps[0].resolved_sequence, states[2].gaps[0].resolved_sequence) == (None, 7)


def test_linked_chain_with_ids_is_verified_and_a_heartbeat_links() -> None:
    feed = [snapshot(100, has_ids=True), linked(100, 150, "9:1"), linked(150, 150), linked(150, 151)]
    states = list(rebuild(feed, "linked"))
    assert (statuses(states), states[-1].gaps) == (["verified"] * 4, ())


@pytest.mark.parametrize("previous", [99, 101])
def test_linked_diff_that_does_not_link_is_a_gap_applied_and_suspect_until_the_snapshot(
    previous: int,
) -> None:
    feed = [snapshot(100, has_ids=True), linked(previous, 150, "9:1"), linked(150, 160)]
    states = list(rebuild([*feed, snapshot(170, has_ids=True)], "linked"))
    assert statuses(states) == ["verified", "suspect", "suspect", "verified"]
    assert (applied(states), states[1].bids) == ([True] * 4, side("10:1 9:1"))
    assert states[2].gaps == (Gap("sequence_gap", 150, 100, previous, None, 2),)
    assert states[3].gaps == (Gap("sequence_gap", 150, 100, previous, 170, 2),)


def test_linked_ids_that_fall_after_a_restart_are_not_stale() -> None:
    states = list(rebuild([snapshot(100, has_ids=True), linked(100, 3, "9:1"), linked(3, 5)], "linked"))
    assert (statuses(states), applied(states)) == (["verified"] * 3, [True] * 3)


def test_linked_diff_without_ids_is_not_checked_and_ends_the_proof_until_the_next_snapshot() -> None:
    feed = [snapshot(100, has_ids=True), diff(110), linked(110, 120), snapshot(130, has_ids=True)]
    states = list(rebuild(feed, "linked"))
    assert statuses(states) == ["verified", "unverifiable", "unverifiable", "verified"]
    assert states[-1].gaps == ()


def test_linked_snapshot_without_ids_proves_nothing_after_it() -> None:
    states = list(rebuild([snapshot(100), linked(100, 110)], "linked"))
    assert (statuses(states), states[-1].gaps) == (["unverifiable"] * 2, ())


def test_rising_ids_are_verified() -> None:
    states = list(rebuild([snapshot(5), diff(6), diff(7), snapshot(1), diff(2)], "rising"))
    assert (statuses(states), applied(states), states[-1].gaps) == (["verified"] * 5, [True] * 5, ())


def test_rising_jump_is_a_gap_applied_and_suspect_and_the_chain_goes_on_from_it() -> None:
    states = list(rebuild([snapshot(5), diff(7, "9:1"), diff(8), diff(10), snapshot(11)], "rising"))
    assert statuses(states) == ["verified", "suspect", "suspect", "suspect", "verified"]
    assert states[1].bids == side("10:1 9:1")
    assert states[4].gaps == (
        Gap("sequence_gap", 7, 6, 7, 11, 3),
        Gap("sequence_gap", 10, 9, 10, 11, 1),
    )


@pytest.mark.parametrize("sequence", [5, 6])
def test_rising_stale_diff_is_ignored_even_if_damaged(sequence: int) -> None:
    feed = [snapshot(5), diff(6), diff(sequence, "9:1", damaged=True), diff(7)]
    states = list(rebuild(feed, "rising"))
    assert (applied(states), statuses(states)) == ([True, True, False, True], ["verified"] * 4)
    assert (states[-1].bids, states[-1].gaps) == (side("10:1"), ())


def test_stale_diff_is_not_counted_among_the_updates_of_a_gap() -> None:
    *_, last = rebuild([snapshot(5), diff(9), diff(6), diff(10)], "rising")
    assert last.gaps == (Gap("sequence_gap", 9, 6, 9, None, 2),)


def test_feed_without_an_id_rule_takes_any_order() -> None:
    states = list(rebuild([snapshot(5), diff(9), diff(2, "9:1")]))
    assert (applied(states), states[-1].gaps) == ([True] * 3, ())


def test_damaged_diff_is_applied_and_suspect_until_the_next_snapshot() -> None:
    feed = [snapshot(1), diff(2, "9:1", damaged=True), diff(3), snapshot(4), diff(5)]
    states = list(rebuild(feed, "rising"))
    assert statuses(states) == ["verified", "suspect", "suspect", "verified", "verified"]
    assert states[1].bids == side("10:1 9:1")
    assert states[-1].gaps == (Gap("quarantined_row", 2, -1, -1, 4, 2),)


def test_every_damaged_message_is_a_gap_of_its_own_after_that_of_its_ids() -> None:
    *_, last = rebuild([snapshot(1), diff(3, damaged=True), diff(4, damaged=True)], "rising")
    assert last.gaps == (
        Gap("sequence_gap", 3, 2, 3, None, 2),
        Gap("quarantined_row", 3, -1, -1, None, 2),
        Gap("quarantined_row", 4, -1, -1, None, 1),
    )


def test_damaged_snapshot_ends_the_gaps_before_it_and_opens_its_own() -> None:
    feed = [snapshot(1), diff(3), snapshot(4, "8:1", damaged=True), diff(5), snapshot(6)]
    states = list(rebuild(feed, "rising"))
    assert statuses(states) == ["verified", "suspect", "suspect", "suspect", "verified"]
    assert states[2].bids == side("8:1")
    assert states[2].gaps == (Gap("sequence_gap", 3, 2, 3, 4, 1), Gap("quarantined_row", 4, -1, -1, None, 1))
    assert states[4].gaps[1] == Gap("quarantined_row", 4, -1, -1, 6, 2)


def okx_of(bids: str, asks: str = "11:1") -> int:
    return okx_checksum(side(bids), side(asks))


def test_kraken_text_is_asks_then_bids_without_point_and_leading_zeros() -> None:
    bids, asks = side("0.04:1 0.05:0.5"), side("0.07:20 0.06:0.003")
    words = ["6", "3000", "7", "20000000", "5", "500000", "4", "1000000"]
    assert kraken_checksum(bids, asks, 2, 6) == zlib.crc32("".join(words).encode())


def test_kraken_text_ends_at_ten_levels_a_side() -> None:
    ten = " ".join(f"{price}:1" for price in range(1, 11))
    asks = side(" ".join(f"{price}:1" for price in range(20, 30)))
    assert kraken_checksum(side(f"0.5:1 {ten}"), asks, 1, 0) == kraken_checksum(side(ten), asks, 1, 0)
    assert kraken_checksum(side(f"11:1 {ten}"), asks, 1, 0) != kraken_checksum(side(ten), asks, 1, 0)


def test_okx_text_takes_bid_and_ask_by_turns_and_the_longer_side_goes_on() -> None:
    bids, asks = side("9.50:1.0 10:100 9:3"), side("11:0.10 12:7")
    assert okx_checksum(bids, asks) == zlib.crc32(b"10:100:11:0.1:9.5:1:12:7:9:3")
    assert okx_checksum({}, asks) == zlib.crc32(b"11:0.1:12:7")


def test_okx_text_ends_at_25_levels_a_side() -> None:
    best = " ".join(f"{price}:1" for price in range(11, 36))
    assert okx_of(best) == okx_of(f"10:1 {best}")
    assert okx_of(best) != okx_of(f"36:1 {best}")


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [("100", -1, "100"), ("0.0000001", -1, "0.0000001"), ("1.50", -1, "1.5"), ("1.5", 3, "1.500")],
)
def test_number_is_printed_without_exponent(number: str, digits: int, text: str) -> None:
    assert printed(Decimal(number), digits) == text


def test_matching_checksum_is_checked_and_a_message_without_one_is_unverifiable() -> None:
    feed = [snapshot(), diff(bids="9:1", checksum=okx_of("10:1 9:1")), diff(bids="8:1")]
    states = list(rebuild(feed, "linked", "okx"))
    assert statuses(states) == ["unverifiable", "checked", "unverifiable"]
    assert [state.checksum_verdict for state in states] == [None, True, None]


def test_ids_prove_more_than_a_checksum() -> None:
    (state,) = rebuild([snapshot(1, has_ids=True, checksum=okx_of("10:1"))], "linked", "okx")
    assert (state.status, state.checksum_verdict) == ("verified", True)


def test_failed_checksum_is_one_gap_and_suspect_at_once_until_the_next_snapshot() -> None:
    good, wrong = okx_of("10:1 9:1"), okx_of("10:1")
    feed = [
        snapshot(1),
        diff(2, "9:1", checksum=wrong),
        diff(3, checksum=wrong),
        diff(4, checksum=good),
        snapshot(5),
    ]
    states = list(rebuild(feed, "linked", "okx"))
    assert statuses(states) == ["unverifiable", "suspect", "suspect", "suspect", "unverifiable"]
    assert [state.checksum_verdict for state in states] == [None, False, False, True, None]
    assert states[-1].gaps == (Gap("checksum_failure", 2, wrong, good, 5, 3),)


def test_failed_checksum_of_a_snapshot_is_a_gap_after_those_that_it_ends() -> None:
    feed = [snapshot(1), diff(2, checksum=7), snapshot(3, checksum=8)]
    *_, last = rebuild(feed, "linked", "okx")
    assert last.status == "suspect"
    assert last.gaps == (
        Gap("checksum_failure", 2, 7, okx_of("10:1"), 3, 1),
        Gap("checksum_failure", 3, 8, okx_of("10:1"), None, 1),
    )


@pytest.mark.parametrize(
    ("message", "kind"),
    [(linked(99, 2, checksum=7), "sequence_gap"), (diff(2, damaged=True, checksum=7), "quarantined_row")],
)
def test_failed_checksum_of_a_book_that_the_message_makes_suspect_is_no_second_gap(
    message: Message, kind: str
) -> None:
    *_, last = rebuild([snapshot(1, has_ids=True), message], "linked", "okx")
    assert ([gap.kind for gap in last.gaps], last.checksum_verdict) == ([kind], False)


def test_checksum_is_that_of_the_book_after_the_cut() -> None:
    expected = kraken_checksum(side("10:1"), side("11:1"), 0, 0)
    first = snapshot(bids="10:1 9:1", kept_levels=1, checksum=expected, price_digits=0, size_digits=0)
    (state,) = rebuild([first], "none", "kraken")
    assert (state.status, state.checksum_verdict) == ("checked", True)


def test_checksum_that_the_feed_does_not_know_is_not_judged() -> None:
    (state,) = rebuild([snapshot(checksum=7)])
    assert (state.status, state.checksum_verdict, state.gaps) == ("unverifiable", None, ())


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (snapshot(3, "10:1.0 9:2"), True),
        (snapshot(3, "9:2 10:1"), True),
        (snapshot(3, "10:1 9:3"), False),
        (snapshot(3, "10:1"), False),
        (snapshot(3, "10:1 9:2", "11:1 12:1"), False),
    ],
    ids=["equal", "equal in another order", "other size", "level missing", "level more"],
)
def test_snapshot_is_compared_with_the_sound_book_before_it_and_opens_no_gap(
    second: Message, verdict: bool
) -> None:
    states = list(rebuild([snapshot(1), diff(2, "9:2"), second], "rising"))
    assert [state.snapshot_verdict for state in states] == [None, None, verdict]
    assert (states[-1].status, states[-1].gaps) == ("verified", ())


def test_snapshot_of_a_suspect_book_is_not_compared() -> None:
    *_, last = rebuild([snapshot(1), diff(3), snapshot(4)], "rising")
    assert last.snapshot_verdict is None


def test_hole_in_rising_ids_before_a_snapshot_is_a_gap_that_the_snapshot_ends() -> None:
    states = list(rebuild([snapshot(5), diff(6, "9:1"), snapshot(9), diff(10)], "rising"))
    assert (statuses(states), applied(states)) == (["verified"] * 4, [True] * 4)
    assert states[-1].gaps == (Gap("sequence_gap", 9, 7, 9, resolved_sequence=9),)
    assert states[2].snapshot_verdict is None


def test_hole_in_rising_ids_before_the_first_snapshot_is_a_gap_too() -> None:
    *_, last = rebuild([diff(3), snapshot(5)], "rising")
    assert last.gaps == (Gap("sequence_gap", 5, 4, 5, resolved_sequence=5),)
    assert [state.gaps for state in rebuild([diff(3), snapshot(4), snapshot(1)], "rising")] == [()] * 3


def known(states: list[State]) -> list[tuple[int, int]]:
    return [(state.bid_known, state.ask_known) for state in states]


def cut(*messages: Message) -> list[State]:
    """States of a feed with rising ids whose snapshots may lack levels."""
    return list(rebuild(messages, "rising", has_whole_snapshots=False))


def test_book_with_whole_snapshots_is_known_as_a_whole() -> None:
    messages = [snapshot(1), diff(2, "9:1 8:1", "12:1"), diff(3, "10:0 9:0 8:0", "11:0 12:0"), diff(4, "3:1")]
    states = list(rebuild(messages, "rising"))
    assert (known(states), statuses(states)) == ([(1, 1), (3, 2), (0, 0), (1, 0)], ["verified"] * 4)


def test_cut_snapshot_is_known_to_its_worst_levels() -> None:
    states = cut(snapshot(1, "10:1 9:1 7:0", "11:1"), diff(2, "9.5:1 8:1", "12:1"), snapshot(3, "10:1"))
    assert known(states) == [(2, 1), (3, 1), (1, 1)]
    assert statuses(states) == ["verified"] * 3


def test_book_is_not_verified_once_its_best_level_is_beyond_the_cut_snapshot() -> None:
    states = cut(
        snapshot(1), diff(2, "", "11:0"), diff(3, "", "12:1"), diff(4, "", "10.5:1"), diff(5, "10:0")
    )
    assert statuses(states) == ["verified", "unverifiable", "unverifiable", "verified", "unverifiable"]
    assert known(states) == [(1, 1), (1, 0), (1, 0), (1, 1), (0, 1)]
    empty = cut(snapshot(1, asks=""), diff(2, "", "12:1 13:1"), diff(3, "", "12:0 13:0"))
    assert (statuses(empty), known(empty)) == (["verified"] * 3, [(1, 0), (1, 2), (1, 0)])


def test_checked_book_is_only_unverifiable_where_its_best_level_is_not_known() -> None:
    feed = [snapshot(), diff(asks="11:0 12:1", checksum=okx_of("10:1", "12:1"))]
    *_, last = rebuild(feed, "linked", "okx", has_whole_snapshots=False)
    assert (last.status, last.checksum_verdict) == ("unverifiable", True)


def test_prices_beyond_the_other_sides_best_are_known_unless_the_book_is_crossed() -> None:
    moved = diff(2, "10:0 12:1", "11:0 15:1")
    states = cut(snapshot(1, asks="11:1 13:1"), moved, diff(3, "12:0 12.5:1"), diff(4, "12.5:0 11:1"))
    assert known(states) == [(1, 2), (1, 1), (1, 1), (1, 1)]
    crossed = cut(snapshot(1), diff(2, "12:1"), diff(3, "12:0", "11.5:1"))
    assert known(crossed) == [(1, 1), (2, 1), (1, 1)]


def test_nothing_is_known_of_a_suspect_or_unseeded_book() -> None:
    states = cut(diff(1), snapshot(2), diff(4), diff(5, damaged=True), snapshot(6))
    assert known(states) == [(0, 0), (1, 1), (0, 0), (0, 0), (1, 1)]
    wrong = list(rebuild([snapshot(), diff(checksum=1), snapshot()], "none", "okx"))
    assert known(wrong) == [(1, 1), (0, 0), (1, 1)]


def told(ids: Any, *messages: tuple[int, Message]) -> list[State]:
    """States of (time, message) pairs of a feed whose recording counts as stopped after a silence of 10."""
    return list(rebuild([replace(message, time=time) for time, message in messages], ids, silence=10))


@pytest.mark.parametrize(("time", "kind"), [(14, "sequence_gap"), (15, "new_session")])
@pytest.mark.parametrize(
    ("ids", "messages", "expected", "found"),
    [
        ("rising", (snapshot(5), diff(6), diff(9, "9:1")), 7, 9),
        ("linked", (snapshot(5, has_ids=True), linked(5, 6), linked(8, 9, "9:1")), 6, 8),
    ],
)
def test_message_that_does_not_connect_after_a_long_silence_begins_a_session(
    time: int, kind: Any, ids: Any, messages: tuple[Message, ...], expected: int, found: int
) -> None:
    states = told(ids, *zip((4, 5, time), messages, strict=True))
    is_new = kind == "new_session"
    assert statuses(states) == ["verified", "verified", "unseeded" if is_new else "suspect"]
    assert (states[2].bids, states[2].applied) == ({} if is_new else side("10:1 9:1"), not is_new)
    if is_new:
        expected, found = 6, 9
    assert states[2].gaps == (Gap(kind, 9, expected, found, None, int(not is_new)),)


def test_ids_that_connect_carry_a_book_over_a_long_silence() -> None:
    rising = told("rising", (0, snapshot(5)), (50, diff(6)), (99, diff(6)), (200, snapshot(7)))
    assert (statuses(rising), rising[-1].gaps) == (["verified"] * 4, ())
    feed = (0, snapshot(5, has_ids=True)), (50, linked(5, 9)), (99, linked(9, 9))
    assert (statuses(told("linked", *feed)), told("linked", *feed)[-1].gaps) == (["verified"] * 3, ())


@pytest.mark.parametrize("ids", ["none", "linked"])
def test_without_ids_every_long_silence_begins_a_session(ids: Any) -> None:
    states = told(ids, (0, snapshot(5)), (9, diff(6)), (19, diff(7)), (20, diff(8)), (21, snapshot(9, "8:1")))
    assert statuses(states) == ["unverifiable"] * 2 + ["unseeded"] * 2 + ["unverifiable"]
    assert states[-1].gaps == (Gap("new_session", 7, 6, 7, resolved_sequence=9),)
    assert (states[-1].bids, states[-1].snapshot_verdict) == (side("8:1"), None)


def test_snapshot_that_begins_a_session_ends_its_gap_and_is_not_compared() -> None:
    feed = (0, snapshot(5)), (50, snapshot(99, "8:1")), (51, diff(100))
    states = told("rising", *feed)
    assert statuses(states) == ["verified"] * 3
    assert states[-1].gaps == (Gap("new_session", 99, 5, 99, resolved_sequence=99),)
    assert states[1].snapshot_verdict is None


def payloads(path: Path, opening: str) -> Iterator[str]:
    """Yield what follows `<seconds>: ` and begins so."""
    for line in path.read_text().splitlines():
        _, _, payload = line.partition(": ")
        if payload.startswith(opening) and not line.startswith("wss://"):
            yield payload


def pairs(rows: list[list[str]]) -> Levels:
    return tuple((Decimal(row[0]), Decimal(row[1])) for row in rows)


def digits(rows: list[list[str]], column: int) -> int:
    (number,) = {len(row[column].partition(".")[2]) for row in rows}
    return number


def read_kraken(path: Path) -> Feeds:
    feeds: Feeds = defaultdict(list)
    for payload in payloads(path, "["):
        _, *parts, channel, pair = json.loads(payload)
        body: dict[str, Any] = {key: value for part in parts for key, value in part.items()}
        bids, asks = (body.get(f"{key}s", body.get(key, [])) for key in "ba")
        message = Message(
            is_snapshot="as" in body,
            checksum=int(body.get("c", -1)),
            kept_levels=int(channel.partition("-")[2]),
            price_digits=digits(bids + asks, 0),
            size_digits=digits(bids + asks, 1),
            bids=pairs(bids),
            asks=pairs(asks),
        )
        feeds[pair].append((0, message))
    return feeds


def okx_message(action: str, data: dict[str, Any]) -> Message:
    return Message(
        is_snapshot=action in ("snapshot", "partial"),
        checksum=data["checksum"] & 0xFFFFFFFF,
        bids=pairs(data["bids"]),
        asks=pairs(data["asks"]),
    )


def read_okx(path: Path) -> Feeds:
    feeds: Feeds = defaultdict(list)
    for payload in payloads(path, "{"):
        line = json.loads(payload)
        if "data" in line and line["arg"]["channel"] == "books":
            (data,) = line["data"]
            feeds[line["arg"]["instId"]].append((int(data["ts"]), okx_message(line["action"], data)))
    return feeds


def read_okcoin(path: Path) -> Feeds:
    feeds: Feeds = defaultdict(list)
    for payload in payloads(path, "b"):
        line = json.loads(zlib.decompress(ast.literal_eval(payload), -15))
        if line.get("table") == "spot/depth_l2_tbt":
            (data,) = line["data"]
            feeds[data["instrument_id"]].append((data["timestamp"], okx_message(line["action"], data)))
    return feeds


def read_bybit(path: Path) -> list[Message]:
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        lines = [json.loads(line) for line in archive.read(name).splitlines()]
    return [
        Message(
            is_snapshot=line["type"] == "snapshot",
            sequence=line["data"]["u"],
            bids=pairs(line["data"]["b"]),
            asks=pairs(line["data"]["a"]),
        )
        for line in lines
    ]


def verdicts(feeds: Feeds, ids: Any, checksum: Any) -> list[tuple[bool | None, str, bool]]:
    """Return (checksum verdict, status, whether there are gaps) of every message."""
    return [
        (state.checksum_verdict, state.status, bool(state.gaps))
        for feed in feeds.values()
        for state in rebuild((message for _, message in feed), ids, checksum)
    ]


@pytest.mark.real_data
def test_kraken_book_has_the_exchanges_checksum_at_every_update(real_data: Path) -> None:
    found = verdicts(read_kraken(real_data / "kraken/KRAKEN.ws.50.0"), "none", "kraken")
    assert sorted(found, key=str) == [(None, "unverifiable", False)] * 10 + [(True, "checked", False)] * 4269


@pytest.mark.real_data
def test_okx_book_has_the_exchanges_checksum_at_every_message(real_data: Path) -> None:
    found = verdicts(read_okx(real_data / "okx/OKX.ws.1.0"), "linked", "okx")
    assert found == [(True, "checked", False)] * 290


@pytest.mark.real_data
@pytest.mark.parametrize(("connection", "messages"), [(1, 1031), (2, 1031), (3, 1099)])
def test_okcoin_book_has_the_exchanges_checksum_at_every_message(
    real_data: Path, connection: int, messages: int
) -> None:
    found = verdicts(read_okcoin(real_data / f"okcoin/OKCOIN.ws.{connection}.0"), "linked", "okx")
    assert found == [(True, "checked", False)] * messages


@pytest.mark.real_data
def test_okcoin_snapshot_of_one_connection_equals_the_book_of_another(real_data: Path) -> None:
    paths = [real_data / f"okcoin/OKCOIN.ws.{connection}.0" for connection in (1, 2, 3)]
    connections = [read_okcoin(path) for path in paths]
    compared = []
    for mine in connections:
        for theirs in connections:
            for instrument, feed in mine.items():
                (taken,) = [entry for entry in theirs[instrument] if entry[1].is_snapshot]
                for turn, (time, message) in enumerate(feed):
                    same = (time, message.checksum) == (taken[0], taken[1].checksum)
                    if same and not message.is_snapshot:
                        upto = [message for _, message in feed[: turn + 1]]
                        *_, last = rebuild([*upto, taken[1]], "linked", "okx")
                        compared.append(last.snapshot_verdict)
    assert compared == [True] * 14


@pytest.mark.real_data
def test_bybit_book_has_500_levels_a_side_and_unbroken_ids_at_every_message(real_data: Path) -> None:
    states = list(rebuild(read_bybit(real_data / "bybit/xrpusdt-ob500.data.zip"), "rising"))
    assert [(len(state.bids), len(state.asks)) for state in states] == [(500, 500)] * 50
    assert (set(statuses(states)), states[-1].gaps) == ({"verified"}, ())


@pytest.mark.real_data
def test_lost_update_in_the_best_25_levels_fails_the_next_checksum(real_data: Path) -> None:
    for feed in read_okx(real_data / "okx/OKX.ws.1.0").values():
        messages = [message for _, message in feed]
        *_, last = rebuild(messages[:5] + messages[6:8], "linked", "okx")
        assert (last.status, [gap.kind for gap in last.gaps]) == ("suspect", ["checksum_failure"])


@pytest.mark.real_data
def test_any_lost_bybit_delta_but_the_last_is_one_gap(real_data: Path) -> None:
    messages = read_bybit(real_data / "bybit/xrpusdt-ob500.data.zip")
    for lost in range(1, len(messages) - 1):
        *_, last = rebuild(messages[:lost] + messages[lost + 1 :], "rising")
        found = messages[lost].sequence + 1
        assert last.gaps == (Gap("sequence_gap", found, found - 1, found, None, len(messages) - 1 - lost),)
