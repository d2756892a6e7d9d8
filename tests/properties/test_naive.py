"""The Binance oracle: small feeds test each rule, and its books have the exchange's own best prices."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from naive import (
    Gap,
    Level,
    Market,
    State,
    Trade,
    Update,
    follow_trades,
    in_feed_order,
    match_top_of_book,
    parse_lines,
    read_capture,
    rebuild,
)
from places import REAL_DATA

DATA = REAL_DATA
Pairs = Sequence[tuple[str, str]]


def levels(*pairs: tuple[str, str]) -> list[Level]:
    return [(Decimal(price), Decimal(size)) for price, size in pairs]


def snapshot(last: int, bids: Pairs = (("10", "1"),), asks: Pairs = (("11", "1"),)) -> Update:
    return Update(True, last, tuple(levels(*bids)), tuple(levels(*asks)))


def diff(U: int, u: int, pu: int = -1, bids: Pairs = (), asks: Pairs = ()) -> Update:
    """A diff; without levels of its own it leaves its mark, a bid of size `u` at price 1."""
    bids = bids if bids or asks else (("1", str(u)),)
    return Update(False, u, tuple(levels(*bids)), tuple(levels(*asks)), U, pu)


def play(market: Market, *updates: Update) -> list[State]:
    return list(rebuild(updates, market))


def statuses(states: Sequence[State]) -> list[str]:
    return [state.status for state in states]


def applied(states: Sequence[State]) -> list[bool]:
    return [state.applied for state in states]


def mark(state: State) -> list[int]:
    """Sizes at price 1: the last applied diff's id, or nothing."""
    return [int(size) for price, size in state.bids if price == 1]


def event(stream: str | None, received: int | None = None, /, **data: Any) -> str:
    line = json.dumps(data if stream is None else {"stream": stream, "data": data})
    return line if received is None else f"{received} {line}"


def depth_event(U: int, u: int, stream: str | None = "x@depth@100ms", **more: Any) -> str:
    body = {"e": "depthUpdate", "E": 5, "s": "X", "U": U, "u": u, "b": [["10", "1"]], "a": []}
    return event(stream, **body | more)


def trade_event(t: int, e: str = "trade", **more: Any) -> str:
    key = "t" if e == "trade" else "a"
    return event(
        f"x@{e}", **{"e": e, "E": 6, "T": 5, "s": "X", key: t, "p": "10.10", "q": "2", "m": True} | more
    )


def ticker_event(u: int, bid: tuple[str, str] = ("10", "1"), ask: tuple[str, str] = ("11", "1")) -> str:
    return event("x@bookTicker", u=u, s="X", b=bid[0], B=bid[1], a=ask[0], A=ask[1])


@pytest.mark.parametrize("stream", ["x@depth", "x@depth@100ms", "x@depth@500ms", "x@depth@0ms", None])
def test_diff_depth_wrapped_or_bare_is_an_update(stream: str | None) -> None:
    (update,) = parse_lines([depth_event(3, 7, stream, pu=2)]).updates
    assert (update.is_snapshot, update.first_sequence, update.sequence, update.prev_sequence) == (
        False,
        3,
        7,
        2,
    )
    assert (list(update.bids), list(update.asks)) == (levels(("10", "1")), [])


def test_spot_diff_without_pu_has_the_sentinel() -> None:
    assert parse_lines([depth_event(3, 7)]).updates[0].prev_sequence == -1


def test_receive_time_is_read_and_may_be_missing() -> None:
    lines = [event(None, 1723161253937085768, lastUpdateId=1, bids=[], asks=[]), depth_event(2, 2)]
    assert [update.received for update in parse_lines(lines).updates] == [1723161253937085768, None]


def test_time_is_the_transaction_time_where_there_is_one() -> None:
    lines = [depth_event(1, 1), depth_event(2, 2, T=4), event(None, lastUpdateId=3, bids=[], asks=[])]
    assert [update.timestamp for update in parse_lines(lines).updates] == [5, 4, None]


def test_bare_last_update_id_is_a_snapshot() -> None:
    (update,) = parse_lines([event(None, 1, lastUpdateId=9, bids=[["10", "1"]], asks=[["11", "2"]])]).updates
    assert (update.is_snapshot, update.sequence) == (True, 9)
    assert (list(update.bids), list(update.asks)) == (levels(("10", "1")), levels(("11", "2")))


@pytest.mark.parametrize("stream", ["x@depth5", "x@depth10@100ms", "x@depth20", "x@depth20@250ms"])
def test_partial_depth_is_a_vendor_book_and_never_an_update(stream: str) -> None:
    spot = event(stream, lastUpdateId=9, bids=[["10", "1"]], asks=[["11", "2"]])
    futures = depth_event(3, 8, stream, pu=2)
    capture = parse_lines([spot, futures])
    assert [book.sequence for book in capture.vendor_books] == [8, 9]
    assert list(capture.vendor_books[1].asks) == levels(("11", "2"))
    assert capture.updates == []


def test_book_ticker_is_known_with_and_without_an_event_name() -> None:
    futures = event("x@bookTicker", e="bookTicker", u=2, s="X", b="1", B="2", a="3", A="4", T=1, E=1)
    first, second = parse_lines([ticker_event(1), futures]).tickers
    assert (first.sequence, second.sequence) == (1, 2)
    assert [second.bid, second.ask] == levels(("1", "2"), ("3", "4"))


def test_trade_is_read_exactly() -> None:
    (trade,) = parse_lines([trade_event(4, p="0.10000001")]).trades
    assert (trade.sequence, trade.price, trade.size) == (4, Decimal("0.10000001"), Decimal(2))
    assert (trade.buyer_is_maker, trade.timestamp, trade.is_aggregate) == (True, 5, False)


def test_unquoted_price_does_not_pass_through_float() -> None:
    line = '{"lastUpdateId": 1, "bids": [[0.1000000000000000055, 1]], "asks": []}'
    assert parse_lines([line]).updates[0].bids[0][0] == Decimal("0.1000000000000000055")


def test_agg_trades_are_used_only_where_there_are_no_trades() -> None:
    assert [trade.sequence for trade in parse_lines([trade_event(7, "aggTrade")]).trades] == [7]
    both = [trade_event(7, "aggTrade"), trade_event(4)]
    assert [trade.sequence for trade in parse_lines(both).trades] == [4]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "17",
        "not json",
        "17 {broken",
        "[1, 2]",
        '{"result": null, "id": 1}',
        '{"stream": "!ticker@arr", "data": [{"e": "24hrTicker"}]}',
        '{"stream": "x@depth", "data": {"lastUpdateId": 1, "bids": [], "asks": []}}',
        '{"e": "serverShutdown", "E": 1}',
        '{"e": "kline", "s": "OTHER", "t": 1}',
    ],
)
def test_unknown_line_is_counted_and_ignored(line: str) -> None:
    capture = parse_lines([depth_event(1, 1), line, depth_event(2, 2)])
    assert ([update.sequence for update in capture.updates], capture.ignored) == ([1, 2], 1)


def test_two_symbols_in_one_capture_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one symbol, found \['X', 'Y'\]"):
        parse_lines([depth_event(1, 1), depth_event(2, 2, s="Y")])


def test_files_gzip_or_plain_are_chained(tmp_path: Path) -> None:
    zipped, plain = tmp_path / "one.gz", tmp_path / "two"
    zipped.write_bytes(gzip.compress(f"7 {depth_event(1, 1)}\n8 {depth_event(2, 2)}\n".encode()))
    plain.write_text(depth_event(3, 3) + "\n")
    updates = read_capture([zipped, plain]).updates
    assert [(update.sequence, update.position) for update in updates] == [(1, 0), (2, 1), (3, 2)]


def test_updates_are_ordered_by_id_then_diff_before_snapshot_then_position() -> None:
    rest = event(None, lastUpdateId=5, bids=[], asks=[])
    capture = parse_lines([rest, depth_event(6, 9), depth_event(4, 5), depth_event(5, 5), depth_event(1, 3)])
    assert [update.position for update in capture.updates] == [4, 2, 3, 0, 1]


def test_equal_updates_keep_the_order_of_the_input() -> None:
    first, second = diff(1, 5, bids=(("1", "1"),)), diff(2, 5, bids=(("1", "2"),))
    assert in_feed_order([first, second]) == [first, second]


def test_trades_tickers_and_vendor_books_are_ordered_by_id() -> None:
    partial = [event("x@depth5", lastUpdateId=last, bids=[], asks=[]) for last in (2, 1)]
    capture = parse_lines([trade_event(2), trade_event(1), ticker_event(2), ticker_event(1), *partial])
    for messages in (capture.trades, capture.tickers, capture.vendor_books):
        assert [message.sequence for message in messages] == [1, 2]


def test_diff_received_before_the_snapshot_and_newer_is_applied_after_it() -> None:
    lines = [
        depth_event(1, 5, b=[["10", "7"]]),
        depth_event(6, 9, b=[["10", "8"]]),
        event(None, lastUpdateId=5, bids=[["10", "3"]], asks=[]),
    ]
    states = play("spot", *parse_lines(lines).updates)
    assert applied(states) == [False, True, True]
    assert states[-1].bids == levels(("10", "8"))
    assert states[-1].gaps == ()


def test_size_is_absolute_and_best_comes_first() -> None:
    seed = snapshot(1, (("9", "1"), ("10", "1")), (("12", "1"), ("11", "1")))
    last = play("spot", seed, diff(2, 2, bids=(("9", "5"), ("9.5", "2")), asks=(("11.5", "3"),)))[-1]
    assert last.bids == levels(("10", "1"), ("9.5", "2"), ("9", "5"))
    assert last.asks == levels(("11", "1"), ("11.5", "3"), ("12", "1"))
    assert (last.bid_levels, last.ask_levels) == (3, 3)


def test_zero_size_deletes_however_it_is_printed() -> None:
    last = play("spot", snapshot(1), diff(2, 2, bids=(("10.00", "0.000"),), asks=(("11", "0"),)))[-1]
    assert (last.bids, last.asks) == ([], [])


def test_deleting_an_absent_level_changes_nothing() -> None:
    states = play("spot", snapshot(1), diff(2, 2, bids=(("8", "0"),)))
    assert states[1].bids == states[0].bids
    assert (states[1].applied, states[1].status) == (True, "verified")


def test_last_write_in_one_message_wins() -> None:
    last = play("spot", snapshot(1), diff(2, 2, bids=(("10", "2"), ("10", "3"), ("9", "1"), ("9", "0"))))[-1]
    assert last.bids == levels(("10", "3"))


def test_depth_cuts_the_view_and_not_the_book() -> None:
    seed = snapshot(1, (("10", "1"), ("9", "1"), ("8", "1")))
    states = list(rebuild([seed, diff(2, 2, bids=(("10", "0"),))], "spot", depth=1))
    assert [state.bids for state in states] == [levels(("10", "1")), levels(("9", "1"))]
    assert [state.bid_levels for state in states] == [3, 2]


def test_earlier_states_do_not_change_later() -> None:
    states = play("spot", snapshot(1), diff(2, 2, bids=(("10", "0"),)), diff(9, 9), snapshot(10))
    assert states[0].bids == levels(("10", "1"))
    assert states[2].gaps[0].resolved_sequence is None


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_diffs_before_the_first_snapshot_are_not_applied_and_report_no_gap(market: Market) -> None:
    for state in play(market, diff(1, 2, 0), diff(50, 60, 40)):
        assert (state.status, state.applied, state.gaps) == ("unseeded", False, ())
        assert (state.bids, state.asks, state.bid_levels) == ([], [], 0)


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_first_snapshot_makes_the_book_verified(market: Market) -> None:
    states = play(market, diff(1, 5, 0), snapshot(7))
    assert (statuses(states), applied(states)) == (["unseeded", "verified"], [False, True])
    assert (states[1].sequence, states[1].is_snapshot) == (7, True)
    assert states[1].bids == levels(("10", "1"))


def test_unknown_market_is_refused() -> None:
    with pytest.raises(ValueError, match="expected market 'spot' or 'usdm', found 'coinm'"):
        next(rebuild([snapshot(1)], "coinm"))  # type: ignore[arg-type]


@pytest.mark.parametrize("u", [99, 100])
def test_spot_diff_not_above_the_snapshot_is_dropped(u: int) -> None:
    states = play("spot", snapshot(100), diff(90, u), diff(101, 105))
    assert (applied(states), states[-1].gaps) == ([True, False, True], ())
    assert mark(states[1]) == []


@pytest.mark.parametrize(("U", "u"), [(101, 101), (101, 110), (100, 110), (50, 101)])
def test_spot_diff_that_holds_the_next_id_bridges(U: int, u: int) -> None:
    last = play("spot", snapshot(100), diff(U, u))[-1]
    assert (last.status, last.applied, last.gaps, mark(last)) == ("verified", True, (), [u])


def test_spot_diff_that_skips_the_next_id_is_one_unbridgeable_snapshot() -> None:
    states = play("spot", snapshot(100), diff(102, 110), diff(111, 120))
    assert statuses(states) == ["verified", "suspect", "suspect"]
    assert (applied(states), mark(states[-1])) == ([True, True, True], [120])
    assert states[-1].gaps == (Gap("unbridgeable_snapshot", 101, 102, 110),)


@pytest.mark.parametrize("u", [98, 99])
def test_futures_diff_below_the_snapshot_is_dropped(u: int) -> None:
    states = play("usdm", snapshot(100), diff(90, u, 89), diff(95, 105, 99))
    assert (applied(states), states[-1].gaps) == ([True, False, True], ())
    assert mark(states[1]) == []


@pytest.mark.parametrize(
    ("U", "u", "pu"),
    [(90, 100, 80), (100, 100, 99), (100, 110, 99), (90, 110, 80), (500, 510, 100)],
    ids=["u is L", "only L", "U is L", "L inside", "pu is L"],
)
def test_futures_diff_that_holds_the_snapshot_or_follows_it_bridges(U: int, u: int, pu: int) -> None:
    last = play("usdm", snapshot(100), diff(U, u, pu))[-1]
    assert (last.status, last.applied, last.gaps, mark(last)) == ("verified", True, (), [u])


def test_futures_bridge_at_the_snapshots_id_is_applied_only_once() -> None:
    states = play("usdm", snapshot(100), diff(90, 100, 80), diff(90, 100, 80), diff(150, 160, 100))
    assert (applied(states), states[-1].gaps) == ([True, True, False, True], ())


@pytest.mark.parametrize("pu", [99, 101])
def test_futures_diff_that_does_not_bridge_is_one_unbridgeable_snapshot(pu: int) -> None:
    states = play("usdm", snapshot(100), diff(101, 110, pu), diff(500, 510, 110))
    assert statuses(states) == ["verified", "suspect", "suspect"]
    assert (applied(states), mark(states[-1])) == ([True, True, True], [510])
    assert states[-1].gaps == (Gap("unbridgeable_snapshot", 100, pu, 110),)


def test_futures_diff_of_the_snapshots_id_comes_first_in_feed_order_and_the_next_bridges() -> None:
    updates = in_feed_order([snapshot(100), diff(90, 100, 80), diff(150, 160, 100)])
    states = play("usdm", *updates)
    assert (applied(states), statuses(states)) == ([False, True, True], ["unseeded", "verified", "verified"])
    assert states[-1].gaps == ()


def chain_seed(market: Market) -> tuple[Update, Update]:
    """Snapshot 100 and a diff that bridges it and ends at 110."""
    return snapshot(100), diff(101, 110, 100) if market == "usdm" else diff(101, 110)


def test_spot_next_id_continues_the_chain() -> None:
    states = play("spot", *chain_seed("spot"), diff(111, 111), diff(112, 130))
    assert (statuses(states), states[-1].gaps) == (["verified"] * 4, ())


def test_spot_larger_first_id_is_a_gap_applied_and_suspect() -> None:
    last = play("spot", *chain_seed("spot"), diff(112, 120))[-1]
    assert (last.status, last.applied, mark(last)) == ("suspect", True, [120])
    assert last.gaps == (Gap("sequence_gap", 111, 112, 120),)


@pytest.mark.parametrize(("U", "u"), [(110, 111), (50, 120), (111, 120)])
def test_spot_overlap_is_applied_without_a_gap(U: int, u: int) -> None:
    last = play("spot", *chain_seed("spot"), diff(U, u))[-1]
    assert (last.status, last.applied, last.gaps, mark(last)) == ("verified", True, (), [u])


def test_futures_previous_id_continues_the_chain_though_the_first_id_jumps() -> None:
    last = play("usdm", *chain_seed("usdm"), diff(5000, 5100, 110))[-1]
    assert (last.status, last.applied, last.gaps) == ("verified", True, ())


def test_futures_larger_previous_id_is_a_gap_applied_and_suspect() -> None:
    last = play("usdm", *chain_seed("usdm"), diff(112, 120, 111))[-1]
    assert (last.status, last.applied, mark(last)) == ("suspect", True, [120])
    assert last.gaps == (Gap("sequence_gap", 110, 111, 120),)


def test_futures_smaller_previous_id_is_an_overlap_applied_without_a_gap() -> None:
    last = play("usdm", *chain_seed("usdm"), diff(105, 120, 109))[-1]
    assert (last.status, last.applied, last.gaps, mark(last)) == ("verified", True, (), [120])


@pytest.mark.parametrize("market", ["spot", "usdm"])
@pytest.mark.parametrize("u", [105, 110])
def test_stale_diff_is_ignored_and_leaves_the_chain(market: Market, u: int) -> None:
    states = play(market, *chain_seed(market), diff(101, u, 100), diff(111, 120, 110))
    assert (applied(states), mark(states[2])) == ([True, True, False, True], [110])
    assert (states[-1].status, states[-1].gaps) == ("verified", ())


@pytest.mark.parametrize("U, pu, market", [(-1, 110, "usdm"), (111, -1, "usdm"), (-1, -1, "spot")])
def test_diff_that_lacks_its_ids_is_refused(U: int, pu: int, market: Market) -> None:
    with pytest.raises(ValueError, match=f"{market} diff 120 .* lacks U or pu"):
        play(market, *chain_seed(market), diff(U, 120, pu))


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_further_break_while_suspect_is_a_further_gap(market: Market) -> None:
    states = play(market, *chain_seed(market), diff(120, 130, 119), diff(131, 140, 130), diff(150, 160, 149))
    expected = [(111, 120), (141, 150)] if market == "spot" else [(110, 119), (140, 149)]
    assert [(gap.expected, gap.found) for gap in states[-1].gaps] == expected
    assert [len(state.gaps) for state in states] == [0, 0, 1, 1, 2]
    assert statuses(states)[2:] == ["suspect"] * 3


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_break_after_an_unbridgeable_snapshot_is_a_sequence_gap(market: Market) -> None:
    last = play(market, snapshot(100), diff(110, 120, 109), diff(130, 140, 129))[-1]
    assert [gap.kind for gap in last.gaps] == ["unbridgeable_snapshot", "sequence_gap"]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_met_while_suspect_replaces_the_book_and_resolves_every_open_gap(market: Market) -> None:
    seed = (*chain_seed(market), diff(120, 130, 119), diff(150, 160, 149))
    states = play(market, *seed, snapshot(200, (("5", "5"),), (("6", "6"),)), diff(201, 210, 200))
    assert (states[4].applied, states[4].status) == (True, "verified")
    assert (states[4].bids, states[4].asks) == (levels(("5", "5")), levels(("6", "6")))
    assert [gap.resolved_sequence for gap in states[4].gaps] == [200, 200]
    assert (states[5].status, len(states[5].gaps)) == ("verified", 2)


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_resolved_gap_keeps_the_snapshot_that_resolved_it(market: Market) -> None:
    first = (*chain_seed(market), diff(120, 130, 119), snapshot(200), diff(201, 210, 200))
    last = play(market, *first, diff(220, 230, 219), snapshot(300))[-1]
    assert [gap.resolved_sequence for gap in last.gaps] == [200, 300]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_diff_after_a_resolving_snapshot_must_bridge_it(market: Market) -> None:
    last = play(market, *chain_seed(market), diff(120, 130, 119), snapshot(200), diff(250, 260, 249))[-1]
    assert [gap.kind for gap in last.gaps] == ["sequence_gap", "unbridgeable_snapshot"]
    assert [gap.resolved_sequence for gap in last.gaps] == [200, None]
    assert last.status == "suspect"


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_met_while_verified_only_adds_levels_where_the_book_is_not_known(market: Market) -> None:
    seen = snapshot(115, (("10", "9"), ("9", "2"), ("1", "3")), (("10.5", "4"), ("11", "1"), ("12", "6")))
    states = play(market, *chain_seed(market), seen, diff(111, 120, 110))
    assert (applied(states), statuses(states)) == ([True, True, False, True], ["verified"] * 4)
    assert [state.merged for state in states] == [False, False, True, False]
    assert states[1].bids == states[2].bids == levels(("10", "1"), ("1", "110"))
    assert states[3].bids == levels(("10", "1"), ("9", "2"), ("1", "120"))
    assert states[3].asks == levels(("11", "1"), ("12", "6"))
    assert states[-1].gaps == ()


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_met_while_verified_does_not_hide_a_gap_before_it(market: Market) -> None:
    last = play(market, *chain_seed(market), snapshot(115), diff(112, 120, 111))[-1]
    assert [gap.kind for gap in last.gaps] == ["sequence_gap"]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_second_snapshot_before_any_diff_replaces_the_first(market: Market) -> None:
    states = play(market, snapshot(100), snapshot(105, (("5", "5"),)), diff(101, 110, 100))
    assert (applied(states), states[1].bids) == ([True, True, True], levels(("5", "5")))
    assert states[-1].gaps == ()


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_that_the_diff_after_a_hole_bridges_ends_the_gap_where_it_began(market: Market) -> None:
    seed = chain_seed(market)
    states = play(market, *seed, snapshot(150, (("5", "5"),)), diff(148, 155, 147), diff(156, 160, 155))
    assert (applied(states), statuses(states)) == ([True] * 5, ["verified"] * 5)
    assert states[2].bids == levels(("5", "5"))
    assert [(gap.kind, gap.sequence, gap.resolved_sequence) for gap in states[-1].gaps] == [
        ("sequence_gap", 150, 150)
    ]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_of_two_snapshots_in_a_hole_the_one_that_bridges_is_used(market: Market) -> None:
    seed = chain_seed(market)
    states = play(market, *seed, snapshot(120), snapshot(150), diff(148, 155, 147))
    assert [state.merged for state in states] == [False, False, True, False, False]
    assert (len(states[-1].gaps), states[-1].status) == (1, "verified")


def known(state: State) -> tuple[int, int]:
    return state.bid_known, state.ask_known


SHALLOW = snapshot(100, (("10", "1"), ("9", "1")), (("11", "1"), ("12", "1")))


def test_snapshot_is_known_to_its_worst_levels() -> None:
    states = play("spot", SHALLOW, diff(101, 101, bids=(("8", "1"), ("9.5", "1"))))
    assert [known(state) for state in states] == [(2, 2), (3, 2)]
    assert states[1].bids == levels(("10", "1"), ("9.5", "1"), ("9", "1"), ("8", "1"))


def test_level_of_size_0_of_a_snapshot_is_not_its_worst() -> None:
    (state,) = play("spot", snapshot(100, (("10", "1"), ("9", "0")), (("11", "1"), ("12", "0"))))
    assert (known(state), state.bid_levels) == ((1, 1), 1)
    last = play(
        "spot", snapshot(100, (("10", "1"), ("9", "0")), (("11", "1"),)), diff(101, 101, bids=(("9", "1"),))
    )[-1]
    assert known(last) == (1, 1)


def test_known_levels_end_at_the_first_that_is_not_known_and_at_the_depth() -> None:
    updates = [SHALLOW, diff(101, 101, bids=(("8", "1"), ("7", "1")))]
    for depth, expected in ((1, 1), (2, 2), (3, 2), (None, 2)):
        *_, last = rebuild(updates, "spot", depth)
        assert last.bid_known == expected


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_book_is_not_verified_once_its_best_level_is_beyond_the_snapshot(market: Market) -> None:
    gone = diff(101, 101, 100, asks=(("11", "0"), ("13", "1")))
    last_gone = diff(102, 102, 101, asks=(("12", "0"),))
    back = diff(103, 103, 102, asks=(("11.5", "2"),))
    states = play(market, SHALLOW, gone, last_gone, back)
    assert statuses(states) == ["verified", "verified", "unverifiable", "verified"]
    assert [state.ask_known for state in states] == [2, 1, 0, 1]
    assert (states[2].asks, states[3].asks) == (levels(("13", "1")), levels(("11.5", "2"), ("13", "1")))
    assert states[-1].gaps == ()


def test_side_without_a_level_is_known_only_if_a_snapshot_shows_it_so() -> None:
    emptied = play("spot", snapshot(100), diff(101, 101, asks=(("11", "0"),)))
    assert (statuses(emptied), known(emptied[1])) == (["verified", "unverifiable"], (1, 0))
    empty = play("spot", snapshot(100, asks=()), diff(101, 101, asks=(("12", "1"), ("13", "1"))))
    assert (statuses(empty), known(empty[1])) == (["verified"] * 2, (1, 2))


def test_bid_at_the_best_ask_of_before_is_known() -> None:
    """No bid was missing there while the ask stood."""
    moved = diff(101, 101, bids=(("10", "0"), ("11", "3")), asks=(("11", "0"),))
    fallen = diff(102, 102, bids=(("11", "0"), ("10.5", "1")))
    states = play("spot", snapshot(100, asks=(("11", "1"), ("20", "1"))), moved, fallen)
    assert [known(state) for state in states] == [(1, 2), (1, 1), (1, 1)]
    gone = diff(102, 102, bids=(("11", "0"), ("9.5", "1")))
    states = play("spot", snapshot(100, asks=(("11", "1"), ("20", "1"))), moved, gone)
    assert (statuses(states), known(states[-1])) == (["verified", "verified", "unverifiable"], (0, 1))


def test_ask_at_the_best_bid_of_before_is_known() -> None:
    lower = diff(101, 101, bids=(("10", "0"), ("9", "1")), asks=(("11", "0"),))
    refilled = diff(102, 102, asks=(("10", "1"), ("9.5", "1")))
    states = play("spot", SHALLOW, lower, refilled)
    assert [state.ask_known for state in states] == [2, 1, 3]
    # The bid of 9 stood without an ask at 9 or below; the bids have no level beyond 9.
    empty = play(
        "spot", snapshot(100), diff(101, 101, asks=(("11", "0"),)), diff(102, 102, asks=(("10.5", "1"),))
    )
    assert statuses(empty) == ["verified", "unverifiable", "verified"]
    beyond = play("spot", snapshot(100), diff(101, 101, asks=(("11", "0"), ("12", "1"))))
    assert (statuses(beyond), known(beyond[1])) == (["verified", "unverifiable"], (1, 0))


def test_crossed_book_teaches_nothing() -> None:
    crossing = diff(101, 101, bids=(("11.5", "1"),), asks=(("11", "1"),))
    gone = diff(102, 102, asks=(("11", "0"), ("11.2", "1")))
    last = play("spot", snapshot(100, asks=(("10.5", "1"),)), crossing, gone)[-1]
    assert last.asks == levels(("10.5", "1"), ("11.2", "1"))
    assert known(last) == (2, 1)


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_met_while_verified_is_known_to_its_worst_levels(market: Market) -> None:
    emptied = diff(111, 111, 110, asks=(("11", "0"),))
    deeper = snapshot(111, (("10", "1"), ("7", "1")), (("12", "1"), ("13", "1")))
    after = diff(112, 112, 111, bids=(("10", "2"),))
    states = play(market, *chain_seed(market), emptied, deeper, after)
    assert statuses(states) == ["verified", "verified", "unverifiable", "unverifiable", "verified"]
    assert [known(state) for state in states] == [(1, 1), (1, 1), (1, 0), (1, 0), (2, 2)]
    shallow = play(market, *chain_seed(market), emptied, deeper, snapshot(111, asks=(("12", "1"),)), after)
    assert known(shallow[-1]) == (2, 2)
    whole = play(market, *chain_seed(market), emptied, snapshot(111, asks=()), after)
    assert statuses(whole)[2:] == ["unverifiable", "unverifiable", "verified"]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_nothing_is_known_of_a_suspect_book_until_the_next_snapshot(market: Market) -> None:
    states = play(market, *chain_seed(market), diff(120, 130, 119), diff(131, 140, 130), snapshot(150))
    assert [known(state) for state in states] == [(1, 1), (1, 1), (0, 0), (0, 0), (1, 1)]


def at(time: int, update: Update) -> Update:
    return replace(update, timestamp=time)


def told(market: Market, *updates: Update) -> list[State]:
    """States of a feed whose recording counts as stopped after a silence of 10."""
    return list(rebuild(updates, market, silence=10))


@pytest.mark.parametrize("market", ["spot", "usdm"])
@pytest.mark.parametrize(("time", "kind"), [(14, "sequence_gap"), (15, "new_session")])
def test_diff_that_does_not_connect_after_a_long_silence_begins_a_session(
    market: Market, time: int, kind: str
) -> None:
    first, second = chain_seed(market)
    states = told(market, at(4, first), at(5, second), at(time, diff(200, 210, 199)))
    is_new = kind == "new_session"
    assert states[-1].status == ("unseeded" if is_new else "suspect")
    assert (states[-1].applied, states[-1].bid_levels) == (not is_new, 0 if is_new else 2)
    last = 111 if market == "spot" else 110
    assert states[-1].gaps == (
        Gap(kind, 110 if is_new else last, 200 if is_new or market == "spot" else 199, 210),
    )


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_diff_that_connects_or_is_stale_after_a_long_silence_begins_none(market: Market) -> None:
    first, second = chain_seed(market)
    states = told(market, at(4, first), at(5, second), at(90, second), at(200, diff(111, 120, 110)))
    assert (statuses(states), states[-1].gaps) == (["verified"] * 4, ())


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_after_a_long_silence_begins_a_session_unless_the_next_diff_connects(market: Market) -> None:
    first, second = chain_seed(market)
    later = at(90, snapshot(200, (("5", "5"),), (("6", "6"),)))
    states = told(market, at(4, first), at(5, second), later, at(91, diff(201, 210, 200)))
    assert statuses(states) == ["verified"] * 4
    assert states[2].bids == levels(("5", "5"))
    assert states[-1].gaps == (Gap("new_session", 110, 200, 200, resolved_sequence=200),)
    alone = told(market, at(4, first), at(5, second), later)
    assert alone[-1].gaps == states[-1].gaps
    seen = at(90, snapshot(115, (("5", "5"),), (("11", "1"),)))
    states = told(market, at(4, first), at(5, second), seen, at(91, diff(111, 120, 110)))
    assert ([state.merged for state in states], states[-1].gaps) == ([False, False, True, False], ())


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_session_lasts_as_unseeded_until_its_own_snapshot(market: Market) -> None:
    first, second = chain_seed(market)
    rest = [at(50, diff(200, 210, 199)), at(51, diff(211, 220, 210)), at(52, snapshot(220))]
    states = told(market, at(4, first), at(5, second), *rest, at(53, diff(221, 230, 220)))
    assert statuses(states) == ["verified", "verified", "unseeded", "unseeded", "verified", "verified"]
    assert applied(states) == [True, True, False, False, True, True]
    assert mark(states[-1]) == [230]
    assert [gap.resolved_sequence for gap in states[-1].gaps] == [220]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_every_long_silence_before_the_first_snapshot_is_a_session(market: Market) -> None:
    states = told(market, at(1, diff(1, 2, 0)), at(50, diff(3, 4, 2)), at(99, snapshot(9)))
    assert [gap.kind for gap in states[-1].gaps] == ["new_session"] * 2
    assert statuses(states) == ["unseeded", "unseeded", "verified"]


def trade(sequence: int) -> Trade:
    return Trade(sequence, Decimal(1), Decimal(1), buyer_is_maker=False)


def test_trade_ids_that_rise_by_one_have_no_gap() -> None:
    trades = [trade(5), trade(6), trade(7)]
    assert follow_trades(trades) == (trades, [])


def test_trade_id_jump_is_one_trade_gap_and_the_trade_is_kept() -> None:
    trades = [trade(5), trade(7), trade(8)]
    assert follow_trades(trades) == (trades, [Gap("trade_gap", 6, 7, 7)])


@pytest.mark.parametrize("sequence", [4, 5, 6])
def test_trade_id_not_above_the_previous_is_a_duplicate_and_ignored(sequence: int) -> None:
    assert follow_trades([trade(5), trade(6), trade(sequence), trade(7)]) == (
        [trade(5), trade(6), trade(7)],
        [],
    )


def test_trade_gap_leaves_the_book_verified() -> None:
    rest = event(None, lastUpdateId=1, bids=[], asks=[])
    capture = parse_lines([rest, trade_event(1), depth_event(2, 2), trade_event(9), depth_event(3, 3)])
    last = play("spot", *capture.updates)[-1]
    assert (last.status, last.gaps) == ("verified", ())
    assert [gap.kind for gap in follow_trades(capture.trades)[1]] == ["trade_gap"]


def matched(*tickers: str, diffs: Sequence[Update]) -> tuple[int, int]:
    return match_top_of_book(rebuild([snapshot(100), *diffs], "spot", depth=1), parse_lines(tickers).tickers)


def test_last_ticker_not_above_the_diff_is_compared() -> None:
    diffs = [diff(101, 110, bids=(("10", "2"),))]
    right, wrong = ("10.0", "2.000"), ("10", "3")
    assert matched(
        ticker_event(109, wrong), ticker_event(110, right), ticker_event(111, wrong), diffs=diffs
    ) == (1, 1)
    assert matched(ticker_event(105, right), diffs=diffs) == (1, 1)


@pytest.mark.parametrize(
    ("bid", "ask"),
    [
        (("9", "1"), ("11", "1")),
        (("10", "2"), ("11", "1")),
        (("10", "1"), ("12", "1")),
        (("10", "1"), ("11", "2")),
    ],
    ids=["bid price", "bid size", "ask price", "ask size"],
)
def test_ticker_that_differs_anywhere_does_not_match(bid: tuple[str, str], ask: tuple[str, str]) -> None:
    assert matched(ticker_event(101, bid, ask), diffs=[diff(101, 110)]) == (1, 0)


def test_diff_older_than_every_ticker_is_skipped() -> None:
    assert matched(ticker_event(111), diffs=[diff(101, 110), diff(111, 112)]) == (1, 1)


def test_snapshots_and_diffs_not_applied_are_not_compared() -> None:
    assert matched(ticker_event(1), diffs=[diff(90, 99), snapshot(100), diff(101, 101)]) == (1, 1)


def test_emptied_side_does_not_match() -> None:
    assert matched(ticker_event(1), diffs=[diff(101, 101, bids=(("10", "0"),))]) == (1, 0)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("market", "updates", "trades", "compared", "equal"),
    [("spot", 6_496, 19_904, 6_493, 6_491), ("usdm", 9_023, 10_701, 9_017, 9_017)],
)
def test_real_capture_has_no_gap_and_the_exchanges_top_of_book(
    market: Market, updates: int, trades: int, compared: int, equal: int
) -> None:
    folder = DATA / "binance" / market
    if not folder.is_dir():
        pytest.skip(f"the real captures are absent: no folder {folder}")
    capture = read_capture(sorted(folder.glob("*.gz")))
    states = list(rebuild(capture.updates, market, depth=1))
    assert (len(states), capture.ignored) == (updates, 0)
    assert (states[-1].status, states[-1].gaps) == ("verified", ())
    assert (len(capture.trades), follow_trades(capture.trades)) == (trades, (capture.trades, []))
    assert match_top_of_book(states, capture.tickers) == (compared, equal)
