"""SQL views and functions whose text does not depend on the warehouse.

A function that takes a symbol returns a table: `SELECT * FROM book_at('BTC-USDT', '2024-08-09 00:01:00')`. If
several exchanges list the symbol, the table has rows of each exchange. A symbol-hour is one chunk, by default
one hour, of one instrument.
"""

from __future__ import annotations

from deltabook.schemas.names import UNSOUND_LABELS

PASSED = """
SELECT shown.* FROM {0}_all AS shown LEFT ANTI JOIN failed_hours AS failed
ON shown.exchange = failed.exchange AND shown.symbol = failed.symbol AND shown.hour = failed.hour
"""
"""Template of a view that leaves out symbol-hours that failed validation. `{0}` is the name of the view."""
SOUND = PASSED + f"WHERE shown.status NOT IN {UNSOUND_LABELS!r}"
"""Template of a view of books. It also leaves out the rows whose status is unsound; see `Status.is_sound`."""

BOOK_KNOWN = """
SELECT book.* EXCEPT (bid_size, bid_price, ask_price, ask_size, spread, mid, microprice,
    bid_prices, bid_sizes, ask_prices, ask_sizes),
  CASE WHEN bid_known_levels > 0 THEN bid_size END AS bid_size,
  CASE WHEN bid_known_levels > 0 THEN bid_price END AS bid_price,
  CASE WHEN ask_known_levels > 0 THEN ask_price END AS ask_price,
  CASE WHEN ask_known_levels > 0 THEN ask_size END AS ask_size,
  CASE WHEN least(bid_known_levels, ask_known_levels) > 0 THEN spread END AS spread,
  CASE WHEN least(bid_known_levels, ask_known_levels) > 0 THEN mid END AS mid,
  CASE WHEN least(bid_known_levels, ask_known_levels) > 0 THEN microprice END AS microprice,
  slice(bid_prices, 1, bid_known_levels) AS bid_prices, slice(bid_sizes, 1, bid_known_levels) AS bid_sizes,
  slice(ask_prices, 1, ask_known_levels) AS ask_prices, slice(ask_sizes, 1, ask_known_levels) AS ask_sizes
FROM book
"""
"""The rows of `book`, cut to the known levels. A best price that is not known is null."""

SESSIONS = """
SELECT exchange, symbol, row_number() OVER (PARTITION BY exchange, symbol ORDER BY begin) AS session,
  timestamp_micros(begin DIV 1000) AS time, begin AS order_time, epoch, sequence
FROM (
  SELECT exchange, symbol, min(first_time) AS begin, min(first_epoch) AS epoch,
    min_by(first_sequence, first_time) AS sequence
  FROM hours WHERE event_type = 'book_update' GROUP BY exchange, symbol
  UNION ALL
  SELECT exchange, symbol, from_time, epoch, sequence FROM gaps WHERE kind = 'new_session'
)
"""
"""The first book update of each recording session of an instrument."""

FEATURES = """
SELECT exchange, symbol, time, status,
  slice(zip_with(ask_prices, bid_prices, (ask, bid) -> ask - bid), 1,
    least(size(ask_prices), size(bid_prices))) AS spreads,
  mid, microprice,
  try_divide(double(bid_size) - double(ask_size), double(bid_size) + double(ask_size)) AS imbalance,
  try_divide(bids - asks, bids + asks) AS depth_imbalance,
  ofi, aggregate(ofi, 0D, (sum, one) -> sum + double(one)) AS ofi_total,
  trade_count, buy_volume, sell_volume, sequence, order_time, epoch, hour, date
FROM (SELECT *,
    aggregate(bid_sizes, 0D, (sum, size) -> sum + double(size)) AS bids,
    aggregate(ask_sizes, 0D, (sum, size) -> sum + double(size)) AS asks
  FROM book_all)
"""
"""Features of each row of `book_all`. All features but `spreads`, `mid` and `ofi` are doubles.

`spreads`: ask price minus bid price, for each level. `microprice`: mean of the best bid and the best ask,
each weighted by the size of the other side (Gatheral and Oomen 2010). `imbalance`: ``(bid_size - ask_size) /
(bid_size + ask_size)`` at the best level, from -1 to 1. `depth_imbalance`: the formula of `imbalance` with
the sums of sizes over all levels of the row. `ofi`: order flow imbalance since the previous row, for each
level, in units of size. `ofi_total`: sum of `ofi` over the levels.
"""

TRADES_WITH_BOOK = """
SELECT exchange, symbol, trade.time, trade.side, trade.price, trade.size, book.*,
  trade.trade_id, trade.order_time, hour, date
FROM (
  SELECT exchange, symbol, hour, date, trade, last_value(book, true) OVER (
    PARTITION BY exchange, symbol, hour, date ORDER BY order_time, is_book, epoch, sequence
    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS book
  FROM (
    SELECT exchange, symbol, hour, date, order_time, false AS is_book, epoch, trade_id AS sequence,
      struct(time, side, price, size, trade_id, order_time) AS trade, NULL AS book
    FROM trades
    UNION ALL
    SELECT exchange, symbol, hour, date, order_time, true, epoch, sequence, NULL,
      struct(bid_size, bid_price, ask_price, ask_size, status AS book_status, sequence AS book_sequence)
    FROM book_marked
    UNION ALL
    SELECT exchange, symbol, hour, date(timestamp_micros(hour div 1000)), -1L, true, epoch, sequence, NULL,
      struct(bid_size, bid_price, ask_price, ask_size, status AS book_status, sequence AS book_sequence)
    FROM openings
  )
) WHERE trade IS NOT NULL
"""
"""Each trade, with the best levels of the last row of `book_marked` before the trade. A row with the
`order_time` of the trade counts as a row after the trade."""

_STEP = "(unix_micros(TIMESTAMP '1970-01-01 00:00:00Z' + step) * 1000)"  # SQL of the parameter `step` in ns

_BOOK_AT = """
WITH before AS (
  SELECT * FROM book_all WHERE symbol = book_at.symbol AND order_time <= unix_micros(book_at.at) * 1000
), last AS (
  SELECT *, row_number() OVER (
    PARTITION BY exchange ORDER BY order_time DESC, epoch DESC, sequence DESC, received DESC) AS place
  FROM before WHERE order_time >= (
    SELECT min(time) FROM (SELECT max(order_time) AS time FROM before GROUP BY exchange))
)
SELECT shown.* EXCEPT (place) FROM last AS shown LEFT ANTI JOIN failed_hours AS failed
ON shown.exchange = failed.exchange AND shown.symbol = failed.symbol AND shown.hour = failed.hour
WHERE place = 1
"""

_OFI = f"""
SELECT exchange, symbol, timestamp_micros(step_start div 1000) AS time, sum(flow) AS ofi,
  max_by(mid, (order_time, epoch, sequence)) AS mid, count(*) AS rows
FROM (
  SELECT exchange, symbol, mid, order_time, epoch, sequence,
    order_time div {_STEP} * {_STEP} AS step_start,
    aggregate(slice(flows, 1, levels), CAST(0 AS DECIMAL(38,18)),
      (sum, one) -> CAST(sum + one AS DECIMAL(38,18))) AS flow
  FROM (SELECT * EXCEPT (ofi), ofi AS flows FROM book) WHERE symbol = ofi.symbol)
GROUP BY exchange, symbol, step_start
"""


def _bars(function: str, bar: str, start: str = "min(time)") -> str:
    """Return the SQL of a function that aggregates the trades of a symbol into bars.

    `function` is the name of the function. `bar` is SQL that returns the number of the bar to which a trade
    belongs. `start` is SQL that returns the time of a bar.
    """
    return f"""
SELECT exchange, symbol, {start} AS time,
  min_by(price, place) AS open, max(price) AS high, min(price) AS low, max_by(price, place) AS close,
  sum(size) AS volume,
  sum(IF(side = 'buy', size, 0)) AS buy_volume,
  sum(IF(side = 'sell', size, 0)) AS sell_volume,
  sum(double(price) * double(size)) / sum(double(size)) AS vwap,
  count(*) AS trades
FROM (
  SELECT *, {bar} AS bar FROM (
    SELECT *, row_number() OVER feed AS place,
      sum(size) OVER feed AS volume_with, sum(price * size) OVER feed AS value_with
    FROM trades WHERE symbol = {function}.symbol AND side <> ''
    WINDOW feed AS (PARTITION BY exchange ORDER BY order_time, epoch, trade_id
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)))
GROUP BY exchange, symbol, bar
"""


_SIZES = "sizes ARRAY<DECIMAL(38,18)>, size DECIMAL(38,18)"
_DEPTH_TO_SIZE = """
aggregate(sizes, named_struct('rest', size, 'levels', 0),
  (sum, one) -> IF(sum.rest > 0,
    named_struct('rest', CAST(sum.rest - one AS DECIMAL(38,18)), 'levels', sum.levels + 1), sum),
  sum -> IF(sum.rest > 0, NULL, sum.levels))
"""
_VWAP_TO_SIZE = """
aggregate(arrays_zip(prices, sizes), named_struct('rest', size, 'paid', 0D),
  (sum, one) -> named_struct(
    'rest', CAST(sum.rest - least(sum.rest, one.sizes) AS DECIMAL(38,18)),
    'paid', sum.paid + double(least(sum.rest, one.sizes)) * double(one.prices)),
  sum -> IF(sum.rest > 0, NULL, sum.paid / double(size)))
"""

FUNCTIONS = {
    "book_at": ("(symbol STRING, at TIMESTAMP) RETURNS TABLE", _BOOK_AT),
    "depth_to_size": (f"({_SIZES}) RETURNS INT", _DEPTH_TO_SIZE),
    "vwap_to_size": (f"(prices ARRAY<DECIMAL(38,18)>, {_SIZES}) RETURNS DOUBLE", _VWAP_TO_SIZE),
    "ofi": (
        "(symbol STRING, levels INT DEFAULT 1, step INTERVAL DAY TO SECOND DEFAULT INTERVAL 1 SECOND) "
        "RETURNS TABLE",
        _OFI,
    ),
    "time_bars": (
        "(symbol STRING, step INTERVAL DAY TO SECOND) RETURNS TABLE",
        _bars("time_bars", f"order_time div {_STEP}", f"timestamp_micros(bar * {_STEP} div 1000)"),
    ),
    "tick_bars": (
        "(symbol STRING, trades BIGINT) RETURNS TABLE",
        _bars("tick_bars", "(place - 1) div tick_bars.trades"),
    ),
    "volume_bars": (
        "(symbol STRING, volume DECIMAL(38,18)) RETURNS TABLE",
        _bars("volume_bars", "(volume_with - size) div volume_bars.volume"),
    ),
    "dollar_bars": (
        "(symbol STRING, value DECIMAL(38,18)) RETURNS TABLE",
        _bars("dollar_bars", "(value_with - price * size) div dollar_bars.value"),
    ),
}
"""Maps the name of each function to (parameters with the result type, SQL of the result).

- `book_at`: the row of `book` that was valid at a time; no row if the row's symbol-hour failed validation.
- `depth_to_size`: the number of levels, counted from the best level, that an order of `size` consumes.
  `vwap_to_size`: the average price of such an order. Both are null if the levels cannot fill the order.
- `ofi`: order flow imbalance of the first `levels` levels in each time step, with the last mid of the step
  (Cont, Kukanov and Stoikov 2014; by level: Xu, Gould and Howison 2018).
- Bars aggregate trades (Lopez de Prado 2018, chapter 2). A trade that extends beyond the end of a bar belongs
  to the bar in which the trade begins.
"""
