"""The functions that a query may call, by Spark's name, with the number of arguments each may have.

A function is here when its result depends on its arguments alone: not on time, chance, the session, the
environment, files, the network or the partitioning of the data, and when it does not throw its argument's
value into an error message on purpose. Whatever is not here is refused by name. This module knows names
only; it must not know tables, columns or rules.
"""

from collections.abc import Mapping

MANY = 1_000_000

_SCALAR = """
abs:1 acos:1 acosh:1 asin:1 asinh:1 atan:1 atan2:2 atanh:1 bin:1 bit_count:1 bit_get:2 bround:1-2 cbrt:1
ceil:1-2 ceiling:1-2 conv:3 cos:1 cosh:1 cot:1 csc:1 degrees:1 e:0 exp:1 expm1:1 factorial:1 floor:1-2
getbit:2 greatest:2-* hex:1 hypot:2 least:2-* ln:1 log:1-2 log10:1 log1p:1 log2:1 mod:2 negative:1 pi:0
pmod:2 positive:1 pow:2 power:2 radians:1 rint:1 round:1-2 sec:1 shiftleft:2 shiftright:2
shiftrightunsigned:2 sign:1 signum:1 sin:1 sinh:1 sqrt:1 tan:1 tanh:1 try_add:2 try_divide:2 try_mod:2
try_multiply:2 try_subtract:2 unhex:1 width_bucket:4

coalesce:1-* equal_null:2 if:3 ifnull:2 isnan:1 isnotnull:1 isnull:1 nanvl:2 nullif:2 nullifzero:1 nvl:2
nvl2:3 zeroifnull:1

bigint:1 binary:1 boolean:1 date:1 decimal:1 double:1 float:1 int:1 smallint:1 string:1 timestamp:1 tinyint:1

ascii:1 base64:1 bit_length:1 btrim:1-2 char:1 char_length:1 character_length:1 chr:1 concat:1-* concat_ws:1-*
contains:2 decode:2-* elt:2-* encode:2 endswith:2 find_in_set:2 format_number:2 format_string:1-* ilike:2-3
initcap:1 instr:2 lcase:1 left:2 len:1 length:1 levenshtein:2-3 like:2-3 locate:2-3 lower:1 lpad:2-3 ltrim:1-2
luhn_check:1 mask:1-5 octet_length:1 overlay:3-4 parse_url:2-3 position:2-3 regexp_count:2 regexp_extract:2-3
regexp_extract_all:2-3 regexp_instr:2-3 regexp_like:2 regexp_replace:3-4 regexp_substr:2 repeat:2 replace:2-3
reverse:1 right:2 rlike:2 rpad:2-3 rtrim:1-2 soundex:1 space:1 split:2-3 split_part:3 startswith:2 substr:2-3
substring:2-3 substring_index:3 to_char:2 to_number:2 to_varchar:2 translate:3 trim:1 try_to_number:2 ucase:1
unbase64:1 upper:1 url_decode:1 url_encode:1

crc32:1 hash:1-* md5:1 sha:1 sha1:1 sha2:2 xxhash64:1-*

add_months:2 date_add:2 date_diff:2 date_format:2 date_from_unix_date:1 date_part:2 date_sub:2 date_trunc:2
dateadd:2 datediff:2 datepart:2 day:1 dayname:1 dayofmonth:1 dayofweek:1 dayofyear:1 from_unixtime:1-2
from_utc_timestamp:2 hour:1 last_day:1 make_date:3 make_timestamp:6-7 minute:1 month:1 monthname:1
months_between:2-3 next_day:2 quarter:1 second:1 timestamp_micros:1 timestamp_millis:1 timestamp_seconds:1
to_date:1-2 to_timestamp:1-2 to_timestamp_ntz:1-2 to_unix_timestamp:1-2 to_utc_timestamp:2 trunc:2
try_to_timestamp:1-2 unix_date:1 unix_micros:1 unix_millis:1 unix_seconds:1 unix_timestamp:1-2 weekday:1
weekofyear:1 year:1

array:0-* array_contains:2 array_distinct:1 array_except:2 array_intersect:2 array_join:2-3 array_max:1
array_min:1 array_position:2 array_remove:2 array_repeat:2 array_size:1 array_sort:1 array_union:2
arrays_overlap:2 arrays_zip:1-* cardinality:1 element_at:2 flatten:1 get:2 get_json_object:2
json_array_length:1 json_object_keys:1 map:0-* map_concat:0-* map_contains_key:2 map_entries:1
map_from_arrays:2 map_from_entries:1 map_keys:1 map_values:1 named_struct:2-* sequence:2-3 size:1 slice:3
sort_array:1-2 struct:1-* to_json:1 try_element_at:2
"""

_AGGREGATE = """
any:1 any_value:1-2 approx_count_distinct:1-2 approx_percentile:2-3 array_agg:1 avg:1 bit_and:1 bit_or:1
bit_xor:1 bool_and:1 bool_or:1 collect_list:1 collect_set:1 corr:2 count:1-* count_if:1 covar_pop:2
covar_samp:2 every:1 first:1-2 first_value:1-2 histogram_numeric:2 kurtosis:1 last:1-2 last_value:1-2
listagg:1-2 max:1 max_by:2 mean:1 median:1 min:1 min_by:2 mode:1 percentile:2-3 percentile_approx:2-3
percentile_cont:1 percentile_disc:1 regr_avgx:2 regr_avgy:2 regr_count:2 regr_intercept:2 regr_r2:2
regr_slope:2 regr_sxx:2 regr_sxy:2 regr_syy:2 skewness:1 some:1 std:1 stddev:1 stddev_pop:1 stddev_samp:1
string_agg:1-2 sum:1 try_avg:1 try_sum:1 var_pop:1 var_samp:1 variance:1
"""

_WINDOW = """
cume_dist:0 dense_rank:0 lag:1-3 lead:1-3 nth_value:2 ntile:1 percent_rank:0 rank:0 row_number:0
"""

# Why some well-known functions are not above. A name that is in no list is refused all the same.
_REASONS = {
    "depends on the time of the run": """curdate current_date current_time current_timestamp getdate localtime
        localtimestamp now sysdate""",
    "depends on chance": """aes_encrypt array_shuffle rand randn random randstr shuffle try_uniform uniform
        uuid""",
    "reads the session or the environment": """current_catalog current_database current_role current_schema
        current_timezone current_user session_user user version""",
    "depends on files or on how the data is cut into partitions": """input_file_block_length
        input_file_block_start input_file_name monotonically_increasing_id spark_partition_id""",
    "runs code": "java_method reflect try_reflect",
    "puts values into error messages": "assert_true raise_error",
    "takes options that may reach files, or parses documents that may": """from_avro from_csv from_json
        from_protobuf from_xml read_files schema_of_csv schema_of_json schema_of_xml to_avro to_csv
        to_protobuf to_xml xpath xpath_boolean xpath_double xpath_float xpath_int xpath_long xpath_number
        xpath_short xpath_string""",
    "names a table or a column by a value": "identifier",
    "makes rows": """explode explode_outer inline inline_outer json_tuple posexplode posexplode_outer range
        stack values variant_explode""",
}

# Where Sail gives another answer than Spark, or none, whatever the arguments: name → why. Forms of a call
# that differ are in `sail_forms`. What differs and how is recorded in tests/spec/functions.
_SPARK_ONLY = """
approx_count_distinct estimates in another way; use count(DISTINCT …)
approx_percentile     estimates in another way; use percentile
array_contains        it forgets that an element is null
array_except          it does not take every pair of arrays
arrays_overlap        it forgets when no element is null
bround                it takes no decimals
char                  it counts beyond 255
chr                   it counts beyond 255
conv                  it reads and writes negative and malformed numbers in another way
get_json_object       it keeps the spaces of the document
histogram_numeric     estimates in another way
hypot                 it overflows
initcap               it begins words after any sign
json_array_length     it counts what is no array
map_from_entries      it takes entries of different types
mode                  it takes no booleans and settles ties in another way
percentile_approx     estimates in another way; use percentile
rint                  it rounds halves away from zero
to_json               it writes times, doubles and negative decimals in another way
"""


def _table(text: str) -> dict[str, tuple[int, int]]:
    table = {}
    for entry in text.split():
        name, _, span = entry.partition(":")
        low, _, high = span.partition("-")
        table[name] = (int(low), MANY if high == "*" else int(high or low))
    return table


AGGREGATES: Mapping[str, tuple[int, int]] = _table(_AGGREGATE)
WINDOW_ONLY: Mapping[str, tuple[int, int]] = _table(_WINDOW)
ALLOWED: Mapping[str, tuple[int, int]] = _table(_SCALAR) | dict(AGGREGATES) | dict(WINDOW_ONLY)
SPARK_ONLY: Mapping[str, str] = {
    name: reason.strip()
    for name, _, reason in (line.partition(" ") for line in _SPARK_ONLY.strip().splitlines())
}
REFUSED: Mapping[str, str] = {name: reason for reason, names in _REASONS.items() for name in names.split()}


# What a call gives, where an expression around it may ask: a type, or `first` (that of the first argument),
# `common` (what all are brought to), `element`, `total` and `mean` (what sum and avg give).
_RESULTS = {
    "tinyint": "tinyint",
    "smallint": "smallint",
    "int": """array_size ascii bit_count bit_length cardinality char_length character_length datediff
        date_diff date_part datepart day dayofmonth dayofweek dayofyear dense_rank find_in_set
        hash hour int instr json_array_length len length levenshtein locate minute month ntile
        octet_length position quarter rank regexp_count regexp_instr row_number second size
        unix_date weekday weekofyear year""",
    "bigint": """approx_count_distinct array_position bigint count count_if crc32 factorial regr_count
        to_unix_timestamp unix_micros unix_millis unix_seconds unix_timestamp width_bucket
        xxhash64""",
    "float": "float",
    "double": """acos acosh asin asinh atan atan2 atanh cbrt corr cos cosh cot covar_pop covar_samp csc
        cume_dist degrees double e exp expm1 hypot kurtosis ln log log10 log1p log2 median
        months_between percent_rank percentile percentile_cont pi pow power radians regr_avgx
        regr_avgy regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy rint sec signum
        sin sinh skewness sqrt std stddev stddev_pop stddev_samp tan tanh var_pop var_samp
        variance""",
    "string": """array_join base64 bin btrim chr char concat_ws conv date_format dayname format_number
        format_string from_unixtime get_json_object hex initcap lcase lower ltrim mask md5
        monthname overlay parse_url regexp_extract regexp_replace regexp_substr repeat replace
        rtrim sha sha1 sha2 soundex space split_part string substring_index to_char to_json
        to_varchar translate trim ucase upper url_decode url_encode decode""",
    "boolean": """any array_contains arrays_overlap bool_and bool_or boolean contains endswith equal_null
        every ilike isnan isnotnull isnull like luhn_check map_contains_key regexp_like rlike
        some startswith""",
    "binary": "binary encode unbase64 unhex",
    "date": """add_months date date_add date_from_unix_date date_sub dateadd last_day make_date
        next_day to_date trunc""",
    "timestamp": """date_trunc from_utc_timestamp make_timestamp timestamp timestamp_micros timestamp_millis
        timestamp_seconds to_timestamp to_utc_timestamp try_to_timestamp""",
    "timestamp_ntz": "to_timestamp_ntz",
    "array<string>": "json_object_keys regexp_extract_all split",
    "first": """abs any_value array_distinct array_intersect array_remove array_sort array_union bit_and
        bit_or bit_xor first first_value lag last last_value lead left lpad max max_by min
        min_by mode negative nth_value nullif nullifzero percentile_disc positive reverse right
        rpad shiftleft shiftright shiftrightunsigned slice sort_array substr substring
        zeroifnull""",
    "tried": "try_add try_mod try_multiply try_subtract",
    "common": "coalesce concat greatest if ifnull least nanvl nvl nvl2 pmod",
    "array": "array array_agg array_repeat collect_list collect_set sequence",
    "keys": "map_keys",
    "values": "map_values",
    "element": "array_max array_min element_at get try_element_at",
    "total": "sum try_sum",
    "mean": "avg mean try_avg",
    "rounded": "ceil ceiling floor round",
}
RESULTS: Mapping[str, str] = {name: kind for kind, names in _RESULTS.items() for name in names.split()}
# How many bits the whole numbers of some calls, and of the parts of a date, can need.
SMALL: Mapping[str, int] = {
    name: int(bits)
    for bits, names in {
        "4": "month quarter",
        "5": "day dayofmonth hour",
        "6": "minute second week weekofyear",
        "3": "dayofweek weekday",
        "9": "dayofyear doy",
        "15": "year",
        "22": "datediff date_diff unix_date",
    }.items()
    for name in names.split()
}


def arity_text(name: str) -> str:
    """How many arguments the allowed function `name` takes, in words."""
    low, high = ALLOWED[name]
    if high == MANY:
        return f"{low} or more arguments"
    if low == high:
        return f"{low} argument" + ("" if low == 1 else "s")
    return f"{low} to {high} arguments"
