"""Spark functions that a query may call: the result of such a function depends only on the arguments.

Clocks and random numbers are allowed, too. Three kinds of functions are not listed: functions that call Java;
functions that can read a file or a table at a given path (`from_xml`, `from_avro` and `from_protobuf` have an
option for this); and functions that return facts about the user, the session or the machine.
"""

from __future__ import annotations

_AGGREGATES = """
any any_value approx_count_distinct approx_percentile approx_top_k approx_top_k_accumulate
approx_top_k_combine approx_top_k_estimate array_agg avg bit_and bit_or bit_xor bitmap_and_agg
bitmap_bit_position bitmap_bucket_number bitmap_construct_agg bitmap_count bitmap_or_agg bool_and bool_or
collect_list collect_set corr count count_if count_min_sketch covar_pop covar_samp every first
first_value grouping grouping_id histogram_numeric hll_sketch_agg hll_sketch_estimate hll_union
hll_union_agg kurtosis last last_value listagg max max_by mean median min min_by mode percentile
percentile_approx percentile_cont percentile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2
regr_slope regr_sxx regr_sxy regr_syy skewness some std stddev stddev_pop stddev_samp string_agg sum
try_avg try_sum var_pop var_samp variance
"""
_WINDOWS = """
cume_dist dense_rank lag lead nth_value ntile percent_rank rank row_number session_window window
window_time
"""
_NUMBERS = """
abs acos acosh asin asinh atan atan2 atanh bin bit_count bit_get bround cbrt ceil ceiling conv cos cosh
cot csc degrees e exp expm1 factorial floor getbit greatest hypot isnan least ln log log10 log1p log2 mod
nanvl negative pi pmod positive pow power radians rand randn random rint round sec shiftleft shiftright
shiftrightunsigned sign signum sin sinh sqrt tan tanh try_add try_divide try_mod try_multiply
try_subtract uniform width_bucket
"""
_TEXTS = """
ascii base64 bit_length btrim char char_length character_length chr collate collation concat concat_ws
contains crc32 decode elt encode endswith find_in_set format_number format_string hash hex ilike initcap
instr is_valid_utf8 lcase left len length levenshtein like locate lower lpad ltrim luhn_check
make_valid_utf8 mask md5 octet_length overlay parse_url position printf quote randstr regexp regexp_count
regexp_extract regexp_extract_all regexp_instr regexp_like regexp_replace regexp_substr repeat replace
reverse right rlike rpad rtrim sentences sha sha1 sha2 soundex space split split_part startswith substr
substring substring_index to_binary to_char to_number to_varchar translate trim try_parse_url
try_to_binary try_to_number try_url_decode try_validate_utf8 ucase unbase64 unhex upper url_decode
url_encode uuid validate_utf8 xxhash64
"""
_TIMES = """
add_months convert_timezone curdate current_date current_time current_timestamp current_timezone date_add
date_diff date_format date_from_unix_date date_part date_sub date_trunc dateadd datediff datepart day
dayname dayofmonth dayofweek dayofyear extract from_unixtime from_utc_timestamp hour last_day
localtimestamp make_date make_dt_interval make_interval make_time make_timestamp make_timestamp_ltz
make_timestamp_ntz make_ym_interval minute month monthname months_between next_day now quarter second
time_diff time_trunc timestamp_micros timestamp_millis timestamp_seconds timestampadd timestampdiff
to_date to_time to_timestamp to_timestamp_ltz to_timestamp_ntz to_unix_timestamp to_utc_timestamp trunc
try_make_interval try_make_timestamp try_make_timestamp_ltz try_make_timestamp_ntz try_to_date
try_to_time try_to_timestamp unix_date unix_micros unix_millis unix_seconds unix_timestamp weekday
weekofyear year
"""
_COLLECTIONS = """
aggregate array array_append array_compact array_contains array_distinct array_except array_insert
array_intersect array_join array_max array_min array_position array_prepend array_remove array_repeat
array_size array_sort array_union arrays_overlap arrays_zip cardinality element_at exists explode
explode_outer filter flatten forall get inline inline_outer map map_concat map_contains_key map_entries
map_filter map_from_arrays map_from_entries map_keys map_values map_zip_with named_struct posexplode
posexplode_outer range reduce sequence shuffle size slice sort_array stack str_to_map struct transform
transform_keys transform_values try_element_at zip_with
"""
_DOCUMENTS = """
from_csv from_json get_json_object is_variant_null json_array_length json_object_keys json_tuple
parse_json schema_of_csv schema_of_json schema_of_variant schema_of_variant_agg to_csv to_json
to_variant_object try_parse_json try_variant_get variant_explode variant_explode_outer variant_get
"""
_OTHERS = """
assert_true bigint binary boolean coalesce date decimal double equal_null float if ifnull int isnotnull
isnull monotonically_increasing_id not nullif nullifzero nvl nvl2 raise_error smallint string time
timestamp tinyint typeof zeroifnull
"""

BUILTINS = frozenset(
    " ".join((_AGGREGATES, _WINDOWS, _NUMBERS, _TEXTS, _TIMES, _COLLECTIONS, _DOCUMENTS, _OTHERS)).split()
)
"""Names of the allowed functions, in lower case."""
_HINTS = """
broadcast broadcastjoin mapjoin coalesce repartition repartition_by_range rebalance merge mergejoin
shuffle_merge shuffle_hash shuffle_replicate_nl
"""
HINTS = frozenset(_HINTS.split())
"""Names of the allowed optimizer hints, for joins and partitioning."""
ENVIRONMENT = frozenset(
    ["current_catalog", "current_database", "current_schema", "current_user", "session_user", "user"]
)
"""Functions about the session, which are not allowed. Spark calls such a function even without parentheses if
no column has the function's name."""
