"""Queries of every kind of Spark SQL that only read the warehouse. All of them must be allowed."""

# ruff: noqa: E501  a query, a line

from __future__ import annotations

PLAIN = """
SELECT 1
SELECT 1 AS one, 'a' AS letter
SELECT ALL symbol FROM trades
SELECT DISTINCT symbol FROM trades
SELECT count(*) FROM events
SELECT COUNT(DISTINCT symbol, side) FROM trades
SELECT count(1), COUNT(price), count(DISTINCT side) FROM trades
SELECT symbol, time, price FROM trades ORDER BY time, trade_id LIMIT 5
SELECT symbol, price FROM trades ORDER BY price DESC NULLS LAST, trade_id ASC NULLS FIRST LIMIT 5 OFFSET 2
SELECT * FROM trades ORDER BY ALL LIMIT 3
SELECT * EXCEPT (price, size) FROM trades ORDER BY trade_id LIMIT 3
SELECT t.*, t.price AS again FROM trades t ORDER BY trade_id LIMIT 3
SELECT trades.price FROM trades ORDER BY trade_id LIMIT 3
SELECT data.price, data.trade_id FROM events WHERE event_type = 'trade' ORDER BY sequence LIMIT 3
SELECT data.* FROM events WHERE event_type = 'trade' ORDER BY sequence LIMIT 3
SELECT bid_prices[0], ask_prices[0] FROM books ORDER BY order_time, sequence LIMIT 3
SELECT bid_prices[0] - ask_prices[0] FROM books ORDER BY order_time, sequence LIMIT 3
SELECT get(bid_prices, 1), element_at(bid_sizes, -1) FROM book ORDER BY order_time, sequence LIMIT 3
SELECT symbol FROM `trades` WHERE `trades`.`side` = 'buy' ORDER BY 1 LIMIT 1
SELECT Symbol, SIDE FROM TRADES GROUP BY 1, 2 ORDER BY 1, 2
select symbol from trades where side='buy' and price>0 and not size<0 group by symbol
FROM trades SELECT symbol, max(price) GROUP BY symbol ORDER BY symbol
FROM trades
VALUES (1, 'a'), (2, 'b')
SELECT * FROM VALUES (1, 'a'), (2, 'b') AS t(x, y)
SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS t(x, y)
SELECT * FROM VALUES 1, 2, 3
SELECT x + y FROM VALUES (1, 2L) AS t(x, y)
TABLE runs
(SELECT 1 AS x) UNION ALL (SELECT 2)
  (SELECT transform(bid_prices, price -> price + 1) FROM book LIMIT 2) -- prices
SELECT /* a comment */ 1 -- and another
SELECT 'it''s', 'it\\'s', "double", 'tab\\there', 'uni\\u00e9', r'raw\\d', 'a' 'b'
SELECT '\\101', '%', '\\%', 'back\\\\slash', '', 'ünïcode', 'line\\nbreak'
SELECT 1L, 2S, 3Y, 1.5BD, 2D, 1.5F, 1e3, 1.5e-3D, .5, 1., 9223372036854775808BD, 123456789012
SELECT -1, +1, - 1.5, -(-1), ~5, 2 * -3
SELECT TRUE, false, NULL, X'1F', 0.1 + 0.2
SELECT DATE '2024-08-09', TIMESTAMP '2024-08-09 00:01:00', TIMESTAMP_NTZ '2024-08-09 00:01:00'
SELECT TIMESTAMP '2024-08-09 00:00:00Z' + INTERVAL 1 DAY, DATE'2024-08-09' - INTERVAL 1 MONTH
SELECT INTERVAL 1 MINUTE, INTERVAL '2' HOURS, INTERVAL -3 DAYS, INTERVAL '1-2' YEAR TO MONTH
SELECT INTERVAL '1 02:03:04.5' DAY TO SECOND, INTERVAL 1 DAY
SELECT 7 DIV 2, 7 / 2, 7 % 2, 7 - 2 - 1, 2 + 3 * 4, (2 + 3) * 4
SELECT 1 = 1, 1 == 1, 1 <> 2, 1 != 2, 1 <=> NULL, 1 < 2, 1 <= 2, 2 > 1, 2 >= 1
SELECT NOT true, !false, true AND false OR true, NOT (true AND false)
SELECT 5 & 3, 5 | 3, 5 ^ 3, 1 | 2 & 3 ^ 4, 1 << 3, 16 >> 2
SELECT 'a' || 'b' || 'c', concat('a', 'b')
SELECT 'abc' LIKE 'a%', 'abc' NOT LIKE 'b%', 'abc' ILIKE 'A%', 'a_c' LIKE 'a/_c' ESCAPE '/'
SELECT 'abc' LIKE ANY ('a%', 'b%'), 'abc' LIKE ALL ('a%', '%c'), 'abc' NOT LIKE ANY ('x', 'y')
SELECT 'abc' RLIKE '^a', 'abc' NOT RLIKE 'd$', 'abc' REGEXP 'b', regexp_like('abc', 'b'), rlike('abc', 'c')
SELECT 1 IN (1, 2), 3 NOT IN (1, 2), 2 BETWEEN 1 AND 3, 5 NOT BETWEEN 1 AND 3
SELECT NULL IS NULL, 1 IS NOT NULL, true IS TRUE, false IS NOT TRUE, CAST(NULL AS BOOLEAN) IS UNKNOWN
SELECT 1 IS DISTINCT FROM 2, 1 IS NOT DISTINCT FROM 1
SELECT CASE WHEN price > 1 THEN 'high' ELSE 'low' END FROM trades LIMIT 2
SELECT CASE side WHEN 'buy' THEN 1 WHEN 'sell' THEN -1 END AS sign, count(*) FROM trades GROUP BY 1 ORDER BY 1
SELECT IF(side = 'buy', size, -size) FROM trades ORDER BY trade_id LIMIT 2
SELECT nvl(NULL, 1), NVL2(NULL, 1, 2), ifnull(NULL, 3), coalesce(NULL, NULL, 4), nullif(1, 1), zeroifnull(NULL)
"""

CASTS = """
SELECT CAST(1.5 AS INT), CAST('1' AS BIGINT), CAST(1 AS DOUBLE), CAST(1 AS FLOAT), CAST(1 AS STRING)
SELECT CAST('1.23' AS DECIMAL(38, 18)), CAST(1.5 AS DECIMAL(10, 2)), CAST(1 AS DECIMAL)
SELECT '5'::int, price::double, price::decimal(20, 2) FROM trades ORDER BY trade_id LIMIT 2
SELECT CAST('2024-08-09' AS DATE), CAST('2024-08-09 01:02:03' AS TIMESTAMP), '2024-08-09'::timestamp_ntz
SELECT TRY_CAST('x' AS INT), try_cast('1' AS SMALLINT), CAST(1 AS TINYINT), CAST(1 AS BOOLEAN)
SELECT CAST('a' AS BINARY), CAST(12345 AS VARCHAR(3)), CAST('a' AS CHAR(3))
SELECT CAST(NULL AS ARRAY<INT>), CAST(array(1, 2) AS ARRAY<STRING>), CAST(map('a', 1) AS MAP<STRING, DOUBLE>)
SELECT CAST(named_struct('a', 1) AS STRUCT<a: STRING>), CAST(struct(1 AS a, 'x' AS b) AS STRUCT<a: INT, b: STRING>)
SELECT CAST('1' AS INTERVAL DAY), CAST(INTERVAL 1 DAY AS INTERVAL DAY TO SECOND)
SELECT int('5'), bigint('6'), double(1), float(2), string(3), decimal(4), date('2024-08-09'), timestamp('2024-08-09')
SELECT boolean('true'), smallint(1), tinyint(2), binary('a')
SELECT typeof(1), typeof(1L), typeof(1.5BD), typeof(price), typeof(time) FROM trades LIMIT 1
SELECT double(price) * double(size) FROM trades ORDER BY trade_id LIMIT 2
SELECT to_date('2024-08-09'), to_timestamp('2024-08-09 01:02:03'), to_date('09/08/2024', 'dd/MM/yyyy')
SELECT to_timestamp('2024', 'yyyy'), to_number('12', '99'), to_char(12, '99'), try_to_number('x', '99')
"""

TIMES = """
SELECT extract(YEAR FROM time), EXTRACT(SECOND FROM time), extract(dow FROM time) FROM trades ORDER BY trade_id LIMIT 2
SELECT year(time), month(time), day(time), hour(time), minute(time), second(time) FROM trades LIMIT 1
SELECT date_part('MINUTE', TIMESTAMP '2024-08-09 00:01:00'), datepart('year', DATE '2024-08-09')
SELECT date_trunc('MINUTE', time), count(*) FROM trades GROUP BY date_trunc('MINUTE', time) ORDER BY 1
SELECT date_trunc('HOUR', time) AS start, sum(size) FROM trades GROUP BY start ORDER BY start
SELECT trunc(DATE '2024-08-09', 'MM'), last_day(DATE '2024-02-01'), next_day(DATE '2024-08-09', 'MON')
SELECT date_add(DATE '2024-08-09', 3), date_sub(DATE '2024-08-09', 3), dateadd(DAY, 3, DATE '2024-08-09')
SELECT datediff(DATE '2024-08-09', DATE '2024-08-01'), datediff(HOUR, TIMESTAMP '2024-08-08', TIMESTAMP '2024-08-09')
SELECT timestampadd(MINUTE, 5, TIMESTAMP '2024-08-09'), timestampdiff(SECOND, TIMESTAMP '2024-08-08', TIMESTAMP '2024-08-09')
SELECT DATE_ADD(MONTH, 1, TIMESTAMP '2024-08-09'), date_diff(DAY, DATE '2024-08-01', DATE '2024-08-09')
SELECT unix_micros(time), unix_millis(time), unix_seconds(time) FROM trades ORDER BY trade_id LIMIT 1
SELECT timestamp_micros(order_time div 1000) FROM trades ORDER BY trade_id LIMIT 1
SELECT timestamp_millis(1723161260500), timestamp_seconds(1723161260), from_unixtime(1723161260)
SELECT from_utc_timestamp(TIMESTAMP '2024-08-09', 'Asia/Tokyo'), to_utc_timestamp(TIMESTAMP '2024-08-09', 'Asia/Tokyo')
SELECT convert_timezone('UTC', 'Europe/Paris', TIMESTAMP_NTZ '2024-08-09 00:00:00'), current_timezone()
SELECT date_format(time, 'yyyy-MM-dd HH:mm:ss.SSS') FROM trades ORDER BY trade_id LIMIT 1
SELECT make_date(2024, 8, 9), make_timestamp(2024, 8, 9, 1, 2, 3.5), make_interval(1, 2), make_dt_interval(1, 2, 3, 4)
SELECT months_between(DATE '2024-08-09', DATE '2024-05-09'), add_months(DATE '2024-08-09', 2), quarter(DATE '2024-08-09')
SELECT dayofweek(DATE '2024-08-09'), weekofyear(DATE '2024-08-09'), dayofyear(DATE '2024-08-09'), weekday(DATE '2024-08-09')
SELECT time - INTERVAL 1 SECOND, time + INTERVAL '5' MINUTE FROM trades ORDER BY trade_id LIMIT 1
SELECT max(time) - min(time) FROM trades
SELECT window.start, window.end, count(*) FROM trades GROUP BY window(time, '1 minute') ORDER BY 1
SELECT count(*) FROM trades WHERE time BETWEEN '2024-08-08 00:00:00' AND TIMESTAMP '2024-08-10'
SELECT count(*) FROM trades WHERE date = DATE '2024-08-08' AND hour(time) >= 23
SELECT current_date = current_date(), current_timestamp IS NOT NULL, now() IS NOT NULL
"""

GROUPS = """
SELECT symbol, count(*), sum(size), avg(price), min(price), max(price) FROM trades GROUP BY symbol ORDER BY symbol
SELECT symbol, side, sum(size) FROM trades GROUP BY ALL ORDER BY ALL
SELECT symbol, side, count(*) FROM trades GROUP BY symbol, side WITH ROLLUP ORDER BY 1, 2
SELECT symbol, side, count(*) FROM trades GROUP BY ROLLUP (symbol, side) ORDER BY 1, 2
SELECT symbol, side, count(*), grouping(side), grouping_id() FROM trades GROUP BY CUBE (symbol, side) ORDER BY 1, 2, 4
SELECT symbol, side, count(*) FROM trades GROUP BY GROUPING SETS ((symbol, side), (symbol), ()) ORDER BY 1, 2
SELECT symbol, side, count(*) FROM trades GROUP BY symbol, side GROUPING SETS ((symbol), (side)) ORDER BY 1, 2
SELECT symbol, count(*) AS n FROM trades GROUP BY symbol HAVING count(*) > 1 ORDER BY n
SELECT symbol FROM trades GROUP BY symbol HAVING max(price) > 100
SELECT count_if(side = 'buy'), bool_and(price > 0), any(side = 'sell'), some(price > 0), every(size > 0) FROM trades
SELECT count(*) FILTER (WHERE side = 'buy'), sum(size) FILTER (WHERE side = 'sell') FROM trades
SELECT percentile(double(price), 0.5), percentile_approx(price, 0.5), approx_percentile(price, array(0.1, 0.9), 100) FROM trades
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY double(price)), median(double(price)), mode(side) FROM trades
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY double(price) DESC) FROM trades
SELECT stddev(double(price)), variance(double(size)), skewness(double(price)), kurtosis(double(price)) FROM trades
SELECT corr(double(price), double(size)), covar_samp(double(price), double(size)), regr_slope(double(price), double(size)) FROM trades
SELECT min_by(price, order_time), max_by(price, (order_time, trade_id)) FROM trades
SELECT first(side, true) IS NOT NULL, last_value(side) IS NULL, any_value(exchange) FROM trades
SELECT size(collect_list(price)), array_sort(collect_set(side)), size(array_agg(price)) FROM trades
SELECT listagg(side, ',') WITHIN GROUP (ORDER BY side) FROM (SELECT DISTINCT side FROM trades)
SELECT string_agg(DISTINCT side, '-') WITHIN GROUP (ORDER BY side) FROM trades
SELECT approx_count_distinct(price) > 1, bit_or(trade_id) > 0, count_min_sketch(symbol, 0.5D, 0.5D, 1) IS NULL FROM trades
SELECT histogram_numeric(double(price), 3) IS NOT NULL FROM trades
SELECT sum(price * size) / sum(size) AS vwap FROM trades
SELECT date, symbol, sum(size) FROM trades GROUP BY date, symbol ORDER BY symbol
SELECT sum(DISTINCT size) FROM trades
"""

WINDOWS = """
SELECT trade_id, row_number() OVER (PARTITION BY symbol ORDER BY order_time, trade_id) FROM trades ORDER BY 1 LIMIT 3
SELECT trade_id, lag(price) OVER w, lead(price, 1) OVER w FROM trades WINDOW w AS (PARTITION BY symbol ORDER BY order_time, trade_id) ORDER BY 1 LIMIT 3
SELECT trade_id, sum(size) OVER (ORDER BY order_time, trade_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM trades ORDER BY 1 LIMIT 3
SELECT trade_id, sum(size) OVER (ORDER BY order_time, trade_id ROWS 2 PRECEDING) FROM trades ORDER BY 1 LIMIT 3
SELECT trade_id, avg(price) OVER (ORDER BY time RANGE BETWEEN INTERVAL 1 SECOND PRECEDING AND CURRENT ROW) FROM trades ORDER BY 1 LIMIT 3
SELECT trade_id, first_value(price) IGNORE NULLS OVER (ORDER BY trade_id), last_value(price, true) OVER (ORDER BY trade_id) FROM trades ORDER BY 1 LIMIT 3
SELECT trade_id, nth_value(price, 2) OVER (ORDER BY trade_id), ntile(4) OVER (ORDER BY trade_id) FROM trades ORDER BY 1 LIMIT 3
SELECT trade_id, rank() OVER (ORDER BY price), dense_rank() OVER (ORDER BY price), percent_rank() OVER (ORDER BY price) FROM trades ORDER BY 1 LIMIT 3
SELECT symbol, count(*) OVER (), cume_dist() OVER (ORDER BY trade_id) FROM trades ORDER BY trade_id LIMIT 3
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY symbol ORDER BY trade_id) AS place FROM trades) WHERE place = 1 ORDER BY symbol
SELECT trade_id, sum(size) OVER (PARTITION BY side ORDER BY trade_id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM trades ORDER BY 1 LIMIT 3
SELECT trade_id, sum(size) OVER (ORDER BY trade_id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) FROM trades ORDER BY 1 LIMIT 3
SELECT price / lag(price) OVER (ORDER BY trade_id) - 1 FROM trades ORDER BY trade_id LIMIT 3
"""

JOINS = """
SELECT count(*) FROM trades JOIN events USING (exchange, symbol) WHERE trades.trade_id = events.sequence
SELECT count(*) FROM trades t JOIN books b ON t.symbol = b.symbol AND t.order_time = b.order_time
SELECT count(*) FROM trades t INNER JOIN gaps g ON t.symbol = g.symbol
SELECT count(*) FROM trades t LEFT JOIN gaps g ON t.symbol = g.symbol
SELECT count(*) FROM gaps g RIGHT OUTER JOIN trades t ON t.symbol = g.symbol
SELECT count(*) FROM gaps g FULL OUTER JOIN coverage c USING (symbol)
SELECT count(*) FROM trades t LEFT SEMI JOIN books b ON t.symbol = b.symbol
SELECT count(*) FROM trades t LEFT ANTI JOIN gaps b ON t.symbol = b.symbol
SELECT count(*) FROM trades ANTI JOIN failed_hours USING (exchange, symbol, hour)
SELECT a.x, b.y FROM VALUES (1), (2) AS a(x) CROSS JOIN VALUES (3) AS b(y) ORDER BY 1
SELECT a.x, b.y FROM VALUES (1), (2) AS a(x), VALUES (3) AS b(y) ORDER BY 1
SELECT * FROM VALUES (1) AS a(x), VALUES (1) AS b(x) RIGHT JOIN VALUES (1), (2) AS c(y) ON b.x = c.y ORDER BY ALL
SELECT * FROM VALUES (1, 2) AS a(x, y) NATURAL JOIN VALUES (1, 3) AS b(x, z)
SELECT /*+ BROADCAST(i) */ count(*) FROM trades t JOIN instruments i USING (exchange, symbol)
SELECT /*+ REPARTITION(3), COALESCE(1) */ count(*) FROM trades
SELECT a.x FROM VALUES (1), (2) AS a(x) JOIN (SELECT 2 AS x) b ON a.x = b.x
SELECT * FROM VALUES (1) AS a(x) JOIN VALUES (1, 5) AS b(x, y) JOIN VALUES (5) AS c(y) ON b.y = c.y
SELECT a.x, s.y FROM VALUES (1), (2) AS a(x), LATERAL (SELECT a.x * 2 AS y) s ORDER BY 1
SELECT a.x, e FROM VALUES (array(1, 2)) AS a(x), LATERAL explode(a.x) AS t(e)
SELECT a.x FROM VALUES (1) AS a(x) LEFT JOIN LATERAL (SELECT a.x + 1 AS y) s ON true
"""

SUBQUERIES = """
WITH one AS (SELECT 1) SELECT * FROM one
WITH one AS (SELECT 1 AS x), two AS (SELECT x + 1 AS y FROM one) SELECT * FROM one, two
WITH t(x) AS (VALUES (1), (2)) SELECT sum(x) FROM t
WITH kept AS (SELECT * FROM events WHERE event_type <> 'delete') SELECT count(*) FROM kept
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r ORDER BY n
WITH trades AS (SELECT 1 AS x) SELECT * FROM trades
SELECT * FROM (WITH x AS (SELECT 1 AS a) SELECT * FROM x)
WITH a AS (WITH b AS (SELECT 1 AS x) SELECT * FROM b) SELECT * FROM a
SELECT (SELECT max(price) FROM trades) AS highest
SELECT symbol FROM trades WHERE price = (SELECT max(price) FROM trades) GROUP BY symbol
SELECT symbol FROM coverage WHERE EXISTS (SELECT 1 FROM trades WHERE trades.symbol = coverage.symbol) GROUP BY 1 ORDER BY 1
SELECT count(*) FROM trades WHERE symbol IN (SELECT symbol FROM instruments)
SELECT count(*) FROM trades WHERE symbol NOT IN (SELECT symbol FROM gaps)
SELECT count(*) FROM trades WHERE (exchange, symbol) IN (SELECT exchange, symbol FROM instruments)
SELECT x, (SELECT count(*) FROM VALUES (1), (2) AS b(y) WHERE b.y > a.x) FROM VALUES (1), (2) AS a(x) ORDER BY x
SELECT count(*) FROM (SELECT DISTINCT symbol, side FROM trades) AS pairs
SELECT 1 AS x UNION SELECT 1
SELECT 1 AS x UNION ALL SELECT 2 UNION ALL SELECT 3 ORDER BY x DESC LIMIT 2
SELECT 1 AS x INTERSECT SELECT 1
SELECT 1 AS x UNION SELECT 2 INTERSECT SELECT 2
(SELECT 1 AS x UNION SELECT 2) INTERSECT SELECT 2
SELECT 1 AS x EXCEPT SELECT 2
SELECT 1 AS x EXCEPT ALL SELECT 1
SELECT 1 AS x MINUS SELECT 2
SELECT symbol FROM trades INTERSECT ALL SELECT symbol FROM instruments
SELECT x FROM (SELECT 1 AS x, 2 AS y) WHERE y = 2
SELECT sum(x) FROM (SELECT 1 AS x UNION ALL SELECT 2) t
"""

ARRAYS = """
SELECT transform(bid_prices, price -> price + 1) FROM book ORDER BY order_time, sequence LIMIT 2
SELECT transform(bid_prices, (price, level) -> price * level) FROM book ORDER BY order_time, sequence LIMIT 2
SELECT filter(array(1, 2, 3), x -> x > 1), exists(array(1, 2), x -> x = 2), forall(array(1, 2), x -> x > 0)
SELECT aggregate(bid_sizes, 0D, (sum, size) -> sum + double(size)) FROM book ORDER BY order_time, sequence LIMIT 2
SELECT aggregate(array(1, 2), 0, (acc, x) -> acc + x, acc -> acc * 10), reduce(array(1, 2), 0, (a, b) -> a + b)
SELECT zip_with(array(1, 2), array(3, 4), (a, b) -> a * b), arrays_zip(array(1, 2), array('a', 'b'))
SELECT array(1, 2)[0], array('a')[0], map('k', 1)['k'], split('a,b', ',')[1]
SELECT size(bid_prices), cardinality(bid_prices), array_size(bid_prices) FROM book ORDER BY order_time, sequence LIMIT 1
SELECT slice(bid_prices, 1, 3), array_max(bid_prices), array_min(ask_prices) FROM book ORDER BY order_time, sequence LIMIT 1
SELECT array_sort(array(3, 1, 2)), sort_array(array(3, 1, 2), false), array_sort(array(1, 2), (a, b) -> b - a)
SELECT array_contains(array(1, 2), 1), array_position(array(1, 2), 2), array_remove(array(1, 2), 1), array_distinct(array(1, 1))
SELECT array_union(array(1), array(2)), array_intersect(array(1), array(1)), array_except(array(1), array(1)), array_append(array(1), 2)
SELECT array_join(array('a', 'b'), '-'), concat(array(1), array(2)), flatten(array(array(1), array(2))), array_repeat(1, 2)
SELECT sequence(1, 5), sequence(1, 10, 3), reverse(array(1, 2)), array_insert(array(1, 3), 2, 2), array_compact(array(1, NULL))
SELECT explode(array(1, 2))
SELECT explode(array(1, 2)) AS x, 'a' AS y
SELECT posexplode(array('a', 'b')) AS (place, letter)
SELECT inline(array(struct(1, 'a'), struct(2, 'b'))) AS (x, y)
SELECT stack(2, 1, 'a', 2, 'b') AS (x, y)
SELECT x, e FROM VALUES (1, array(1, 2)) AS t(x, a) LATERAL VIEW explode(a) s AS e
SELECT x, i, e FROM VALUES (1, array(1, 2)) AS t(x, a) LATERAL VIEW OUTER posexplode(a) s AS i, e
SELECT a, b FROM VALUES (array(1), array(2)) AS t(x, y) LATERAL VIEW explode(x) l AS a LATERAL VIEW explode(y) m AS b
SELECT time, level, price FROM book LATERAL VIEW posexplode(slice(bid_prices, 1, 2)) levels AS level, price ORDER BY order_time, sequence, level LIMIT 4
SELECT * FROM explode(array(1, 2))
SELECT * FROM explode(array(1, 2)) AS t(x)
SELECT * FROM posexplode(array('a', 'b')) AS t(i, x)
SELECT * FROM range(5)
SELECT id * 2 FROM range(1, 5) ORDER BY 1
SELECT r.id FROM range(0, 10, 3) AS r ORDER BY 1
SELECT map('a', 1, 'b', 2), map_keys(map('a', 1)), map_values(map('a', 1)), map_entries(map('a', 1))
SELECT map_from_arrays(array('a'), array(1)), map_concat(map('a', 1), map('b', 2)), map_contains_key(map('a', 1), 'a')
SELECT map_filter(map('a', 1), (k, v) -> v > 0), transform_keys(map('a', 1), (k, v) -> upper(k)), transform_values(map('a', 1), (k, v) -> v + 1)
SELECT str_to_map('a:1,b:2', ',', ':'), map_from_entries(array(struct('a', 1))), map_zip_with(map('a', 1), map('a', 2), (k, x, y) -> x + y)
SELECT struct(1 AS a, 'x' AS b), named_struct('a', 1, 'b', 2), struct(1, 2).col1, named_struct('a', 1).a
SELECT (1, 'a'), struct(price, size) FROM trades ORDER BY trade_id LIMIT 1
SELECT get(ask_prices, depth_to_size(ask_sizes, 1.5) - 1) FROM book ORDER BY order_time, sequence LIMIT 2
SELECT element_at(array(1, 2), 1), try_element_at(array(1, 2), 5), element_at(map('a', 1), 'a')
SELECT array(), map(), array(array(1), array(2))[0][0]
"""

SHAPES = """
SELECT * FROM (SELECT symbol, side, size FROM trades) PIVOT (sum(size) FOR side IN ('buy', 'sell')) ORDER BY symbol
SELECT * FROM (SELECT symbol, side, size FROM trades) PIVOT (sum(size) AS total, count(*) AS n FOR side IN ('buy' AS b, 'sell' AS s)) ORDER BY symbol
SELECT * FROM VALUES (1, 2, 3) AS t(x, y, z) UNPIVOT (value FOR name IN (y, z)) ORDER BY name
SELECT * FROM VALUES (1, 2, 3) AS t(x, y, z) UNPIVOT INCLUDE NULLS (value FOR name IN (y AS why, z)) ORDER BY name
SELECT count(*) FROM trades TABLESAMPLE (100 PERCENT)
SELECT count(*) FROM trades TABLESAMPLE (10 ROWS)
SELECT count(*) > 0 FROM trades TABLESAMPLE (50 PERCENT) REPEATABLE (7) AS sampled
SELECT count(*) > 0 FROM trades TABLESAMPLE (BUCKET 1 OUT OF 1)
SELECT symbol, price FROM trades DISTRIBUTE BY symbol SORT BY price LIMIT 0
SELECT symbol FROM trades CLUSTER BY symbol LIMIT 0
SELECT * FROM book_at('BTC-USDT', '2024-08-09 00:01:00')
SELECT b.mid FROM book_at('BTC-USDT', TIMESTAMP '2024-08-09 00:01:00') AS b
SELECT * FROM ofi('BTC-USDT', 3, INTERVAL 15 SECONDS) ORDER BY time LIMIT 2
SELECT time, ofi FROM ofi('BTC-USDT', levels => 2) ORDER BY time LIMIT 2
SELECT time, ofi, mid, rows FROM ofi(symbol => 'BTC-USDT', step => INTERVAL '1' MINUTE) ORDER BY time
SELECT * FROM time_bars('BTC-USDT', INTERVAL 10 SECONDS) ORDER BY time LIMIT 2
SELECT time, open, close FROM tick_bars('BTC-USDT', 10) ORDER BY time LIMIT 2
SELECT count(*) FROM volume_bars('BTC-USDT', 1)
SELECT count(*) FROM dollar_bars('BTC-USDT', 50000)
SELECT vwap_to_size(ask_prices, ask_sizes, 1), depth_to_size(bid_sizes, 0.5) FROM book ORDER BY order_time, sequence LIMIT 2
SELECT count(*) FROM book_wide
SELECT status, count(*) FROM book GROUP BY status ORDER BY status
SELECT time, get(spreads, 0), imbalance, ofi_total FROM features ORDER BY order_time, sequence LIMIT 2
SELECT time, side, price, bid_price, ask_price FROM trades_with_book ORDER BY order_time, trade_id LIMIT 2
SELECT count(*) FROM grid
SELECT count(*) FROM openings
SELECT command, get_json_object(summary, '$.stages') IS NULL FROM runs ORDER BY finished
"""

TEXTS = """
SELECT upper('a'), LOWER('A'), length('abc'), char_length('abc'), initcap('ab cd'), reverse('abc'), repeat('a', 3)
SELECT substring('abc', 1, 2), substr('abc', 2), SUBSTRING('abc' FROM 2 FOR 1), left('abc', 1), right('abc', 1)
SELECT trim(' a '), TRIM(BOTH 'x' FROM 'xax'), trim(LEADING 'x' FROM 'xa'), ltrim(' a'), rtrim('a '), btrim('xax', 'x')
SELECT lpad('a', 3, '0'), rpad('a', 3), replace('abc', 'b', 'x'), translate('abc', 'ab', 'xy'), instr('abc', 'b')
SELECT position('b', 'abc'), POSITION('b' IN 'abc'), locate('b', 'abc'), split('a-b', '-'), split_part('a.b', '.', 2)
SELECT overlay('abcd', 'X', 2), overlay('abcd' PLACING 'XY' FROM 2), overlay('abcd' PLACING 'X' FROM 2 FOR 1)
SELECT regexp_extract('a1b2', '([a-z])([0-9])', 2), regexp_replace('abc', 'b', '[$0]'), regexp_extract_all('a1b2', '[0-9]', 0)
SELECT concat_ws('-', 'a', 'b'), format_string('%s-%d', 'a', 1), format_number(1234.5, 2), printf('%05.2f', 1.5)
SELECT startswith('abc', 'a'), endswith('abc', 'c'), contains('abc', 'b'), ascii('a'), chr(97), char(98), hex('a'), md5('a'), sha2('a', 256)
SELECT base64('a'), unbase64('YQ=='), encode('a', 'utf-8'), decode(X'61', 'utf-8'), decode(1, 1, 'one', 'other')
SELECT to_json(struct(1 AS a)), from_json('{"a": 1}', 'a INT'), get_json_object('{"a": {"b": 2}}', '$.a.b')
SELECT schema_of_json('{"a": 1}'), json_array_length('[1, 2]'), json_object_keys('{"a": 1}')
SELECT json_tuple('{"a": 1, "b": 2}', 'a', 'b') AS (a, b)
SELECT from_json('{"t": "08/2024"}', 't DATE', map('dateFormat', 'MM/yyyy')), to_csv(struct(1, 2)), from_csv('1,2', 'a INT, b INT')
SELECT parse_json('{"a": 1}') IS NOT NULL, variant_get(parse_json('{"a": 1}'), '$.a', 'int')
SELECT 'a' COLLATE UTF8_LCASE = 'A', collation('a')
SELECT levenshtein('abc', 'abd'), soundex('Miller'), crc32('a'), hash(1), xxhash64('a')
SELECT elt(1, 'a', 'b'), find_in_set('b', 'a,b'), space(2) = '  ', sentences('Hi there. Bye.')
"""

NUMBERS = """
SELECT abs(-1), ceil(1.2), CEILING(1.25, 1), floor(1.8), FLOOR(1.85, 1), round(1.255, 2), bround(2.5), sign(-3), mod(7, 3), pmod(-7, 3)
SELECT sqrt(4), cbrt(8), exp(0), ln(1), log(2, 8), log10(100), log2(8), log1p(0), pow(2, 3), power(2, 3), pi(), e()
SELECT sin(0), cos(0), tan(0), asin(0), acos(1), atan(0), atan2(0, 1), sinh(0), degrees(0), radians(0), hypot(3, 4)
SELECT greatest(1, 2), least(1, 2), nanvl(double('NaN'), 1), isnan(double('NaN')), width_bucket(5, 0, 10, 5), factorial(5)
SELECT try_add(1, 2), try_divide(1, 0), try_subtract(3, 1), try_multiply(2, 3), try_mod(5, 0), try_sum(x), try_avg(x) FROM VALUES (1), (2) AS t(x)
SELECT bit_count(7), bit_get(5, 0), shiftleft(1, 2), shiftright(8, 1), shiftrightunsigned(8, 1), conv('ff', 16, 10), bin(5)
SELECT price * 2 + size / 3 - 1, -price, price % 7, abs(price - 1) FROM trades ORDER BY trade_id LIMIT 2
SELECT CAST(price AS DECIMAL(38, 18)) * 0.5BD, price * 2L, price + 1.25 FROM trades ORDER BY trade_id LIMIT 2
SELECT rand(7) BETWEEN 0 AND 1, randn(1) IS NOT NULL, length(uuid()), monotonically_increasing_id() >= 0
SELECT assert_true(true), isnull(NULL), isnotnull(1), equal_null(NULL, NULL), negative(1), positive(2), not(true)
SELECT sum(x), product FROM (SELECT sum(x) AS x, max(x) AS product FROM VALUES (1), (2) AS t(x)) GROUP BY product
"""

MORE = """
WITH a AS (SELECT 1 AS x) SELECT * FROM a UNION ALL SELECT * FROM a
SELECT sum(x) FROM VALUES (1) AS t(x) HAVING sum(x) > 0
SELECT x FROM VALUES (1) AS t(x) WHERE x IS NOT NULL AND NOT x IS NULL OR NOT (x IS NULL) = true
SELECT a.b.c FROM (SELECT named_struct('b', named_struct('c', 1)) AS a)
SELECT a.b[0].c FROM (SELECT named_struct('b', array(named_struct('c', 1))) AS a)
SELECT a['b'] FROM (SELECT map('b', 1) AS a)
SELECT `a b`, `c``d` FROM (SELECT 1 AS `a b`, 2 AS `c``d`)
SELECT date, timestamp, hour FROM events ORDER BY timestamp, sequence LIMIT 1
SELECT avg(price) AS `avg`, first FROM (SELECT price, 1 AS first FROM trades) GROUP BY first
SELECT lead, rank, `values`, `table` FROM (SELECT 1 AS lead, 2 AS rank, 3 AS `values`, 4 AS `table`)
SELECT 1 AS x, 2 AS `X y` LIMIT ALL
SELECT x FROM VALUES (1), (2) AS t(x) WHERE x IN (SELECT y FROM VALUES (2) AS s(y)) LIMIT 1
SELECT CASE WHEN 1 = 1 THEN CASE 2 WHEN 3 THEN 4 ELSE 5 END END
SELECT - x, -x * -1, x - -1, - - x FROM VALUES (1) AS t(x)
SELECT 1 - (2 - 3), (1 - 2) - 3, 2 * (3 + 4), -(1 + 2), NOT (1 = 2), (1, 2) = (1, 2)
SELECT 'a' IN ('a'), ('a', 1) IN (('a', 1)), 1 NOT IN (2)
SELECT count(DISTINCT *) FROM VALUES (1) AS t(x)
SELECT struct(*) FROM VALUES (1, 2) AS t(x, y)
SELECT x FROM VALUES ('a') AS t(x) WHERE x LIKE '%a%' AND x NOT LIKE '\\\\%'
SELECT CAST(x AS STRUCT<a: INT, b: ARRAY<MAP<STRING, INT>>>) FROM (SELECT named_struct('a', 1, 'b', array(map('k', 1))) AS x)
SELECT x, count(*) FROM VALUES (1), (2) AS t(x) GROUP BY x HAVING count(*) = 1 AND x > 1 ORDER BY x
SELECT * FROM (SELECT 1 AS a, 2 AS b) JOIN (SELECT 1 AS a, 3 AS c) USING (a)
SELECT * FROM ((SELECT 1 AS a))
SELECT * FROM (trades t JOIN events e ON t.trade_id = e.sequence AND t.symbol = e.symbol) LIMIT 0
SELECT TIME '10:00:00'
SELECT transform(array(1), `x y` -> `x y` + 1)
SELECT filter(array(struct(1 AS a)), x -> x.a > 0), transform(array(map('k', 1)), m -> m['k'])
SELECT aggregate(array(struct(1 AS a)), named_struct('s', 0), (acc, x) -> named_struct('s', acc.s + x.a), acc -> acc.s)
SELECT t.x.a FROM VALUES (named_struct('a', 1)) AS t(x)
SELECT t.x[0], (t.x)[1], array(x[0])[0] FROM VALUES (array(1, 2)) AS t(x)
SELECT sum(size) total, count(*) n FROM trades t WHERE t.side = "buy"
SELECT hour, hour(time) FROM trades LIMIT 1
SELECT date_trunc('hour', time) hour, min(date) date FROM trades GROUP BY 1
SELECT first_value(x) OVER (ORDER BY x ROWS UNBOUNDED PRECEDING) FROM VALUES (1) AS t(x)
SELECT sum(x) OVER w1, sum(x) OVER (w1) FROM VALUES (1) AS t(x) WINDOW w1 AS (ORDER BY x), w2 AS (PARTITION BY x)
SELECT * FROM VALUES (1, array(1)) AS t(x, a) LATERAL VIEW explode(a) AS e
SELECT * FROM VALUES (1, array(1)) AS t(x, a) LATERAL VIEW explode(a) e
SELECT * FROM stack(2, 1, 2) AS t(x)
SELECT * FROM inline(array(struct(1 AS a, 2 AS b)))
SELECT * FROM json_tuple('{"a":1}', 'a')
SELECT a.x FROM VALUES (1) a(x) LEFT OUTER JOIN VALUES (2) b(y) ON a.x = b.y WHERE b.y IS NULL
SELECT a.x FROM VALUES (1) a(x) JOIN LATERAL explode(array(a.x)) AS e(v) ON true
"""

COMMANDS = """
EXPLAIN SELECT 1
EXPLAIN FORMATTED SELECT count(*) FROM trades
explain extended select symbol from trades
DESCRIBE TABLE books
DESCRIBE books
DESC trades
DESCRIBE FUNCTION round
DESCRIBE FUNCTION EXTENDED round
DESCRIBE QUERY SELECT 1 AS x, 'a' AS y
SHOW VIEWS
SHOW VIEWS LIKE 'book*'
SHOW TABLES
SHOW COLUMNS IN books
SHOW COLUMNS FROM book
SHOW FUNCTIONS
SHOW USER FUNCTIONS
"""


def queries(*groups: str) -> list[str]:
    """Return the queries of some groups, one a line."""
    return [line for group in groups for line in group.strip("\n").splitlines()]


HONEST = queries(
    *(PLAIN, CASTS, TIMES, GROUPS, WINDOWS, JOINS, SUBQUERIES, ARRAYS, SHAPES, TEXTS, NUMBERS, MORE),
)
