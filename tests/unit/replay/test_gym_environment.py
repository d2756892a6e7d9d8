"""The Gymnasium environment: fills equal those computed by hand, and Gymnasium's own checks pass."""

from __future__ import annotations

import multiprocessing
import warnings
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from captures import write
from events import START_MS, depth, snapshot, trade
from faulted import build

import deltabook
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.udfs.replay.fills import CancelPosition, Fill, Quote, fill_marketable_order
from deltabook.udfs.replay.streams import NO_TRADES, Trades

gymnasium = pytest.importorskip("gymnasium")

SECOND = 1_000_000_000
START = START_MS * 1_000_000
STILL, QUIET, RISING, END = 0, 60, 120, 240
"""Seconds at which the book is constant with trades, constant without, rises by 1 a second, and ends."""
LATE = 5_000_000
NAME = "deltabook.jobs.replay.gym_environment:deltabook/Book-v0"


def make_observation(bids, asks, trades: Trades = NO_TRADES, updates: int = 1, deeper=()):
    """An observation for orders; `deeper` asks are in the full book only."""
    columns = {
        f"{side}_{what}": np.array([level[column] for level in levels], dtype=np.int64)
        for side, levels in (("bid", bids), ("ask", asks))
        for column, what in enumerate(("prices", "sizes"))
    }
    whole = columns | {
        f"ask_{what}": np.array([level[column] for level in [*asks, *deeper]], dtype=np.int64)
        for column, what in enumerate(("prices", "sizes"))
    }
    return SimpleNamespace(**columns, trades=trades, update_count=updates, full_book=lambda: whole)


def sell_trades(price: int, *sizes: int) -> Trades:
    """Trades with a selling aggressor."""
    count = len(sizes)
    arrays = [[0] * count, range(count), [-1] * count, [price] * count, sizes]
    return Trades(0, *(np.array(array, dtype=np.int64) for array in arrays))


def trades_only(trades: Trades):
    return make_observation([(10, 5)], [(11, 5)], trades, updates=0)


def test_order_takes_levels_and_the_rest_stays_unfilled():
    book = make_observation([(10, 5), (9, 2)], [(11, 5), (13, 2)], deeper=[(20, 1)])
    assert fill_marketable_order(book, 4) == Fill(4, 44)
    assert fill_marketable_order(book, 7) == Fill(7, 5 * 11 + 2 * 13)
    assert fill_marketable_order(book, 9) == Fill(8, 5 * 11 + 2 * 13 + 20)
    assert fill_marketable_order(book, -6) == Fill(-6, -(5 * 10 + 9))
    assert fill_marketable_order(book, -100) == Fill(-7, -(5 * 10 + 2 * 9))


def test_trades_at_the_price_of_a_quote_fill_the_queue_first():
    quote = Quote(make_observation([(10, 5)], [(11, 5)]), 3, CancelPosition.BEHIND)
    assert (quote.price, quote.ahead) == (10, 5)
    assert quote.update(trades_only(sell_trades(10, 2, 2))) == Fill()
    assert quote.update(trades_only(sell_trades(11, 9))) == Fill()
    assert quote.update(trades_only(sell_trades(10, 2))) == Fill(1, 10)
    assert quote.update(trades_only(sell_trades(10, 9))) == Fill(2, 20)
    assert quote.update(trades_only(sell_trades(10, 9))) == Fill()


def test_quote_is_filled_by_trades_and_quotes_beyond_its_price():
    quote = Quote(make_observation([(10, 5)], [(11, 5)]), 3, CancelPosition.BEHIND)
    assert quote.update(trades_only(sell_trades(9, 1))) == Fill(3, 30)
    quote = Quote(make_observation([(10, 5)], [(11, 5)]), -3, CancelPosition.BEHIND)
    assert quote.update(make_observation([(11, 2)], [(12, 5)])) == Fill(-2, -22)
    assert quote.update(make_observation([(12, 2)], [(13, 5)])) == Fill(-1, -11)


@pytest.mark.parametrize(("cancelled", "ahead"), [("behind", 5), ("ahead", 3)])
def test_cancelled_size_leaves_the_queue_at_the_chosen_position(cancelled, ahead):
    quote = Quote(make_observation([(10, 5)], [(11, 5)]), 3, CancelPosition(cancelled))
    quote.update(make_observation([(10, 8)], [(11, 5)]))
    assert quote.ahead == 5
    quote.update(make_observation([(10, 6)], [(11, 5)]))
    assert quote.ahead == ahead
    quote.update(trades_only(sell_trades(10, 1)))
    quote.update(make_observation([(10, 5)], [(11, 5)]))  # the trade's own: nothing was cancelled
    assert quote.ahead == ahead - 1
    quote.update(make_observation([(10, 1)], [(11, 5)]))
    assert quote.ahead == min(1, ahead - 1) if cancelled == "behind" else quote.ahead == 0


def market_lines():
    """A capture: two levels a side, repeated each 100 ms, still at first, then rising."""
    number = 1

    def line(milliseconds: int, text: str) -> bytes:
        return b"%d %s\n" % ((START_MS + milliseconds) * 1_000_000 + LATE, text.encode())

    def levels(up: int):
        bids, asks = ((100, "1"), (99, "2")), ((101, "1"), (102, "2"))
        return [[(str(price + up), size) for price, size in side] for side in (bids, asks)]

    yield line(-100, snapshot("spot", 1000, *levels(0)))
    for tenth in range(END * 10 + 1):
        up = max(tenth // 10 - RISING, 0)
        bids, asks = levels(up)
        if up and tenth % 10 == 0:
            bids, asks = [*bids, (str(98 + up), "0")], [*asks, (str(100 + up), "0")]
        now, last = tenth * 100, 1001 + tenth
        yield line(now, depth("spot", last, last, bids, asks, E=START_MS + now))
        if tenth % 10 == 5 and tenth < QUIET * 10:
            for price, maker in (("100", True), ("101", False)):
                times = {"E": START_MS + now + 50, "T": START_MS + now + 50}
                yield line(now + 50, trade("spot", number, price, "0.5", m=maker, **times))
                number += 1


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment")
    run = build("binance", [write(folder / "raw.gz", market_lines())], folder / "w")
    assert (run.exit_status, run.summary["gaps"]) == (0, 0), run.said
    return folder / "w"


def make(warehouse, **options):
    return gymnasium.make(NAME, warehouse=str(warehouse), symbol="BTC-USDT", **options)


def start_at(second: int) -> dict[str, int]:
    """Options of an episode that starts just after a change of the book."""
    return {"start": START + second * SECOND + LATE}


def play(environment, actions, **reset) -> list[float]:
    environment.reset(**reset)
    return [environment.step(action)[1] for action in actions]


@pytest.mark.spark
def test_no_policy_earns_on_a_constant_book(warehouse):
    environment = make(warehouse, max_size="0.5", fee=0.001)
    assert play(environment, [1] * 20, options=start_at(QUIET)) == [0.0] * 20
    actions = np.random.default_rng(8).integers(0, 3, 50).tolist()
    rewards = play(environment, actions, options=start_at(QUIET))
    expected = []
    for before, after in pairwise([1, *actions]):
        bought = (after - before) * 0.5
        price = 101 if bought > 0 else 100
        expected.append(-abs(bought) * (0.5 + 0.001 * price))
    assert rewards == pytest.approx(expected, abs=1e-9)
    assert max(rewards) <= 0
    resting = make(warehouse, max_size="0.5", passive=True)
    assert play(resting, actions, options=start_at(QUIET)) == [0.0] * 50


@pytest.mark.spark
def test_large_orders_pay_each_level_and_stop_at_the_last(warehouse):
    environment = make(warehouse, max_size="2")
    assert play(environment, [2, 1], options=start_at(QUIET)) == pytest.approx([-(0.5 + 1.5), -(0.5 + 1.5)])
    environment = make(warehouse, max_size="10", levels=1)
    assert play(environment, [2], options=start_at(QUIET)) == pytest.approx([-(0.5 + 2 * 1.5)])
    assert environment.step(2)[-1]["position"] == 6 * 10**8  # the book does not notice: it is there again


@pytest.mark.spark
def test_reward_on_a_rising_book_is_its_rise_less_the_spread(warehouse):
    environment = make(warehouse, max_size="0.5")
    assert play(environment, [2] * 30, options=start_at(RISING)) == pytest.approx([0.5 - 0.25] + [0.5] * 29)
    assert play(environment, [0] * 30, options=start_at(RISING)) == pytest.approx([-0.5 - 0.25] + [-0.5] * 29)
    crossing = play(environment, [2, 0] * 15, options=start_at(RISING))
    assert crossing == pytest.approx([0.5 - 0.25] + [-0.5 - 0.5, 0.5 - 0.5] * 14 + [-0.5 - 0.5])
    actions = np.random.default_rng(8).integers(0, 3, 50).tolist()
    rewards = play(environment, actions, options=start_at(RISING))
    assert -(0.5 + 0.5) * 50 <= sum(rewards) <= 0.5 * 50


@pytest.mark.spark
def test_orders_reach_the_book_after_the_latency(warehouse):
    for latency, price in ((0, 101), (SECOND, 102), (2 * SECOND - 1, 102)):
        environment = make(warehouse, max_size="1", step=2 * SECOND, latency=latency)
        (reward,) = play(environment, [2], options=start_at(RISING))
        assert reward == pytest.approx(102.5 - price)


@pytest.mark.spark
def test_quote_is_filled_after_the_queue_ahead_of_it(warehouse):
    environment = make(warehouse, max_size="0.5", passive=True, passive_fee=0.001)
    environment.reset(options=start_at(STILL + 10))
    positions = [environment.step(2)[-1]["position"] for _ in range(5)]
    assert positions == [0, 0, 5 * 10**7, 5 * 10**7, 5 * 10**7]  # 1 is ahead, 0.5 is sold each second
    info = environment.step(2)[-1]
    assert info["wealth"] == pytest.approx(0.5 * 0.5 - info["fees"])
    assert info["fees"] == pytest.approx(0.5 * 100 * 0.001)
    environment.reset(options=start_at(STILL + 10))
    assert [environment.step(action)[-1]["position"] for action in (2, 1, 2, 2)] == [0] * 4


@pytest.mark.spark
def test_observation_has_the_documented_numbers(warehouse):
    environment = make(warehouse, max_size="0.5", levels=3)
    first, info = environment.reset(options=start_at(RISING))
    levels = first[:12].reshape(4, 3)
    share = 10_000 / 100.5
    assert levels[0] == pytest.approx([max(-0.5 * share, -10), -10, 0])
    assert levels[1] == pytest.approx([np.log1p(2), np.log1p(4), 0])
    assert levels[3] == pytest.approx([np.log1p(2), np.log1p(4), 0])
    assert first[-6:] == pytest.approx([0, 0, 10, 0, 0, 0])
    assert (info["status"], info["position"]) == ("verified", 0)
    after = environment.step(2)[0]
    assert after[-2] == pytest.approx((1 + 1) / 2)  # a better bid came, of size 1; the ask of 1 went
    assert after[-1] == 1
    environment.reset(options=start_at(STILL + 10))
    assert environment.step(1)[0][-3] == 0  # as much was bought as sold


def lines_below_the_snapshot():
    """A capture of three bids, of which the snapshot shows two: the third level is not known."""
    start = snapshot("spot", 1000, [("100", "1"), ("99", "2")], [("101", "1"), ("102", "2")])
    yield b"%d %s\n" % (START, start.encode())
    for tenth in range(200):
        text = depth("spot", 1001 + tenth, 1001 + tenth, [("98", "4")], E=START_MS + tenth * 100)
        yield b"%d %s\n" % (START + tenth * SECOND // 10 + LATE, text.encode())


@pytest.mark.spark
def test_levels_that_are_not_known_are_absent_on_request(spark, tmp_path):
    run = build("binance", [write(tmp_path / "raw.gz", lines_below_the_snapshot())], tmp_path / "w")
    assert (run.exit_status, run.summary["gaps"]) == (0, 0), run.said
    options = {"levels": 3, "max_size": "2", "length": 5 * SECOND}
    whole, cut = (
        make(tmp_path / "w", known_only=known_only, **options).reset(options=start_at(5))[0]
        for known_only in (False, True)
    )
    assert whole[3:6] == pytest.approx(np.log1p([0.5, 1, 2]))
    assert cut[3:6] == pytest.approx([*np.log1p([0.5, 1]), 0])
    assert (whole[2], cut[2]) == (-10, 0)
    assert np.delete(cut, [2, 5]).tolist() == np.delete(whole, [2, 5]).tolist()
    made = deltabook.make_env(tmp_path / "w", "BTC-USDT", known_only=True, **options)
    assert made.reset(options=start_at(5))[0].tolist() == cut.tolist()


@pytest.mark.spark
@pytest.mark.parametrize("passive", [False, True])
def test_decimals_give_the_same_episodes_as_scaled_integers(warehouse, tmp_path, passive):
    asked = tmp_path / "instruments.yaml"
    asked.write_text("instruments: {BINANCE: {BTC-USDT: {is_decimal: true}}}\n")
    build("binance", [write(tmp_path / "raw.gz", market_lines())], tmp_path / "w", config=asked)
    actions = np.random.default_rng(2).integers(0, 3, 40).tolist()
    played = []
    for folder, unit in ((warehouse, 10**8), (tmp_path / "w", 10**18)):
        environment = make(folder, max_size="10", levels=1, fee=0.001, passive=passive)
        environment.reset(options=start_at(STILL + 10))
        steps = [environment.step(action) for action in actions]
        positions = [step[-1]["position"] / unit for step in steps]
        played.append(([step[0].tolist() for step in steps], [step[1] for step in steps], positions))
    usual, decimal = played
    assert np.array(decimal[0]) == pytest.approx(np.array(usual[0]))
    assert decimal[1] == pytest.approx(usual[1])
    assert decimal[2] == usual[2]
    assert max(usual[2]) > 0


@pytest.mark.spark
@pytest.mark.parametrize("passive", [False, True])
def test_gymnasium_checker_accepts_the_environment(warehouse, passive):
    from gymnasium.utils.env_checker import check_env

    check_env(make(warehouse, passive=passive, length=20 * SECOND).unwrapped)


def rollout(environment, seed: int) -> list[object]:
    first, info = environment.reset(seed=seed)
    environment.action_space.seed(seed)
    results: list[object] = [first.tolist(), info]
    for _ in range(3):
        ended = False
        while not ended:
            observation, reward, _, ended, info = environment.step(environment.action_space.sample())
            results += [observation.tolist(), reward, info]
        results.append(environment.reset()[1])
    return results


@pytest.mark.spark
def test_equal_seeds_give_equal_episodes(warehouse):
    options = {"length": 10 * SECOND, "fee": 0.001, "latency": SECOND // 2}
    found = rollout(make(warehouse, **options), 5)
    assert found == rollout(make(warehouse, **options), 5)
    assert found != rollout(make(warehouse, **options), 6)


@pytest.mark.spark
def test_spawned_vector_environment_equals_a_synchronous_one(warehouse):
    options = {"warehouse": str(warehouse), "symbol": "BTC-USDT", "length": 5 * SECOND, "fee": 0.001}
    played = []
    for mode, how in (("sync", {}), ("async", {"context": "spawn"})):
        both = gymnasium.make_vec(NAME, 2, vectorization_mode=mode, vector_kwargs=how, **options)
        first, _ = both.reset(seed=3)
        steps = [both.step(np.array([2, number % 3])) for number in range(12)]
        played.append([first.tolist(), *([part.tolist() for part in step[:4]] for step in steps)])
        both.close()
    assert played[0] == played[1]


WRONG = {
    "warehouse": ["", 5, None],
    "symbol": ["NO-SUCH", "", "btc-usdt", "../x", "-", 5, None],
    "exchange": ["NOWHERE", "", "-", 5],
    "start": ["yesterday", -1, 1.5, True, "", b"2024"],
    "end": ["tomorrow", -1, 1.5, True],
    "clock": ["wall", "", None, 5],
    "levels": [0, -1, 5_001, 10**9, 1.5, "10", True, None, float("nan")],
    "step": [0, -1, 0.5, "1s", True, None, 2**63, float("nan"), 61 * SECOND],
    "length": [0, -1, 1, 2**63, "1m", 1e9, None],
    "latency": [-1, SECOND, 2 * SECOND, 0.5, None, float("inf")],
    "max_size": [
        "0",
        "-1",
        "NaN",
        "Infinity",
        "-Infinity",
        "sNaN",
        "one",
        "",
        "0.000000001",
        "1e30",
        1,
        0.5,
        None,
    ],
    "fee": [-0.001, 1, 1.5, float("nan"), float("inf"), "0.1", None, True],
    "passive_fee": [-1, 1, float("nan"), float("-inf"), "0.1", None],
    "passive": [1, "yes", None],
    "known_only": [1, "yes", None],
    "cancelled": ["beside", "", None],
}


@pytest.mark.spark
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_invalid_argument_is_refused_with_name_value_and_expectation(warehouse, name, value):
    given = {"warehouse": str(warehouse), "symbol": "BTC-USDT", name: value}
    with pytest.raises(SettingsError) as refused:
        gymnasium.make(NAME, **given)
    message = str(refused.value)
    named = {"step": ("step", "latency", "length"), "length": ("length",)}.get(name, (name,))
    assert any(f"{argument}=" in message for argument in named), message
    assert repr(value) in message or str(value) in message
    assert "expected" in message


@pytest.mark.spark
def test_all_invalid_arguments_are_reported_at_once(warehouse):
    with pytest.raises(SettingsError) as refused:
        make(warehouse, levels=0, fee=-1, clock="wall", start="2024-08-09", end="2024-08-08")
    assert all(f"{name}=" in str(refused.value) for name in ("levels", "fee", "clock", "end"))


@pytest.mark.spark
def test_arguments_at_the_ends_of_their_ranges_are_accepted(warehouse):
    make(warehouse, levels=np.int64(1), step=np.int64(2), length=2, latency=1, fee=0, passive_fee=-0.5)
    make(warehouse, max_size="0.00000001", fee=0.999, start="2024-08-09", end=2**63 - 1, exchange="BINANCE")
    make(warehouse, max_size="1000000000000000000", levels=5_000, cancelled="ahead", clock="exchange")


@pytest.mark.spark
def test_errors_name_missing_warehouse_and_invalid_action_option_and_length(warehouse, tmp_path):
    with pytest.raises(WarehouseError):
        make(tmp_path / "nothing")
    environment = make(warehouse).unwrapped
    with pytest.raises(SettingsError, match="found stop"):
        environment.reset(options={"stop": 5})
    with pytest.raises(SettingsError, match="expected ISO 8601"):
        environment.reset(options={"start": "soon"})
    environment.reset(options=start_at(QUIET))
    for action in (3, -1, 1.5, None, "2", float("nan")):
        with pytest.raises(SettingsError, match=r"expected 0 \(short\), 1"):
            environment.step(action)
    with pytest.raises(SettingsError, match="the longest has"):
        make(warehouse, length=10**18).unwrapped.reset()


def forked(work) -> str:
    """Return the error that `work` raises in a forked process, as text."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        try:
            work()
            sender.send("nothing")
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")

    process = context.Process(target=run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and later: forks beside threads
        process.start()
    assert receiver.poll(60), "it hangs"
    process.join(60)
    return str(receiver.recv())


@pytest.mark.spark
def test_forked_process_raises_an_error_with_the_remedy(warehouse):
    before = make(warehouse)
    before.reset(seed=1)
    for work in (lambda: make(warehouse).reset(), before.reset, lambda: before.step(1)):
        message = forked(work)
        assert message.startswith("SettingsError") and 'context="spawn"' in message


@pytest.mark.spark
@pytest.mark.parametrize("context", ["fork", None])
def test_forked_vector_environment_raises_in_the_parent_and_ends(warehouse, context):
    if context is None and multiprocessing.get_start_method() != "fork":
        pytest.skip("fork is not this Python's way of starting processes")
    options = {"warehouse": str(warehouse), "symbol": "BTC-USDT"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's own, of the workers that it ends
        both = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make(NAME, **options)] * 2, context=context)
        with pytest.raises(SettingsError, match='context="spawn"'):
            both.reset(seed=3)
        both.close(terminate=True)
    assert not any(process.is_alive() for process in both.processes)
