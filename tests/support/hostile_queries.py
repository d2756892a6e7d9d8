"""Compose statements that try to leave the warehouse, out of hostile parts, and inspect Spark's plans.

`CANARY` is an environment variable and a system property that no query may show. In the parts, `FILE` stands
for the path of a file beside the warehouse, `TABLE` for the path of a Delta table, and `OUT` for a path that
is written to.
"""

from __future__ import annotations

import json
import re
from typing import Any

from honest_queries import HONEST
from hypothesis import strategies as st

from deltabook.jobs.queries.builtins import BUILTINS, HINTS
from deltabook.jobs.queries.functions import FUNCTIONS

CANARY = "CANARY_OF_QUERIES"

EXPRESSIONS = (
    "reflect('java.lang.System', 'getenv', 'CANARY')",
    "java_method('java.lang.System', 'getProperty', 'CANARY')",
    "try_reflect('java.lang.System', 'getenv', 'CANARY')",
    "`reflect`('java.lang.System', 'getenv', 'CANARY')",
    "ReFlEcT ('java.lang.System', 'getenv', 'CANARY')",
    "reflect/* */('java.lang.System', 'getenv', 'CANARY')",
    "system.builtin.reflect('java.lang.System', 'getenv', 'CANARY')",
    "builtin.`java_method`('java.lang.System', 'getenv', 'CANARY')",
    "IDENTIFIER('ref'||'lect')('java.lang.System', 'getenv', 'CANARY')",
    "IDENTIFIER('re' 'flect')('java.lang.System', 'getenv', 'CANARY')",
    r"IDENTIFIER('java_m\u0065thod')('java.lang.System', 'getenv', 'CANARY')",
    "IDENTIFIER(lower('REFLECT'))('java.lang.System', 'getenv', 'CANARY')",
    "from_xml('<a>1</a>', 'a INT', map('rowValidationXSDPath', 'FILE'))",
    "schema_of_xml('<a>1</a>', map('rowValidationXSDPath', 'FILE'))",
    "xpath_string('<!DOCTYPE a [<!ENTITY x SYSTEM \"file:FILE\">]><a>&x;</a>', 'a')",
    "from_protobuf(X'00', 'm', 'FILE')",
    "to_protobuf(struct(1), 'm', 'FILE')",
    "from_avro(X'00', '{}', map('avroSchemaUrl', 'FILE'))",
    "input_file_name()",
    "current_user()",
    "current_user",
    "user",
    "`session_user`",
    "`u\u017fer`",
    "`sess\u0131on_user`",
    "`sess\u0130on_user`",
    "u\u017fer",
    "version()",
    "current_database()",
    "current_catalog",
    "_metadata.file_path",
    "`_metadata`.file_path",
    "spark_catalog.default.secret(1)",
    "(SELECT max(value) FROM text.`FILE`)",
    "EXISTS (SELECT 1 FROM csv.`FILE`)",
    "1 IN (SELECT 1 FROM text.`FILE`)",
    "transform(array(1), x -> reflect('java.lang.System', 'getenv', 'CANARY'))",
    "aggregate(array(1), '', (a, b) -> java_method('java.lang.System', 'getenv', 'CANARY'))",
    "get_json_object(try_reflect('java.lang.System', 'getenv', 'CANARY'), '$')",
    "count(*) FILTER (WHERE reflect('java.lang.System', 'getenv', 'CANARY') > '')",
    "sum(1) OVER (ORDER BY reflect('java.lang.System', 'getenv', 'CANARY'))",
    "percentile_cont(0.5) WITHIN GROUP (ORDER BY length(current_user()))",
    "CASE WHEN reflect('java.lang.System', 'getenv', 'CANARY') > '' THEN 1 END",
    "CAST(reflect('java.lang.System', 'getenv', 'CANARY') AS STRING)",
    "extract(YEAR FROM reflect('java.lang.System', 'getenv', 'CANARY'))",
    "trim(BOTH 'x' FROM reflect('java.lang.System', 'getenv', 'CANARY'))",
    "struct(reflect('java.lang.System', 'getenv', 'CANARY') AS a)",
    "array(1)[length(reflect('java.lang.System', 'getenv', 'CANARY'))]",
    "INTERVAL (length(current_user())) DAY",
    "'${env:CANARY}'",
    "'${system:CANARY}'",
    "`${env:CANARY}`",
    "${spark.app.name}",
    ":parameter",
    "?",
    "NEXT VALUE FOR s",
)
"""Each of them leaves the warehouse wherever it is evaluated, or asks for what only a session knows."""

RELATION_NAMES = (
    "text.`FILE`",
    "csv.`FILE`",
    "binaryFile.`FILE`",
    "parquet.`TABLE`",
    "delta.`TABLE`",
    "DELTA . `TABLE`",
    "`delta`.`TABLE`",
    "`org.apache.spark.sql.execution.datasources.text`.`FILE`",
    "spark_catalog.delta.`TABLE`",
    "`TABLE`",
    "'FILE'",
    "secret",
    "default.secret",
    "global_temp.secret",
    "session.secret",
    "IDENTIFIER('text.`FILE`')",
    "IDENTIFIER('de' || 'lta.`TABLE`')",
)
RELATION_CALLS = (
    "table_changes_by_path('TABLE', 0)",
    "table_changes('secret', 0)",
    "IDENTIFIER('table_changes_by_' || 'path')('TABLE', 0)",
    "read_files('FILE')",
    "read_kafka(bootstrapServers => 'localhost')",
    "python_worker_logs()",
    "cloud_files_state('FILE')",
    "sql_keywords()",
    "explode(array(reflect('java.lang.System', 'getenv', 'CANARY')))",
    "range(length(current_user()))",
    "(SELECT reflect('java.lang.System', 'getenv', 'CANARY'))",
    "(SELECT * FROM text.`FILE`)",
    "(VALUES (reflect('java.lang.System', 'getenv', 'CANARY')))",
    "(WITH text AS (SELECT 1) SELECT * FROM text.`FILE`)",
    "(WITH secret AS (SELECT 1) SELECT 1) JOIN secret",
    "books TIMESTAMP AS OF '2024-01-01'",
    "books VERSION AS OF 0",
    "books WITH (path = 'FILE')",
    "STREAM text.`FILE`",
    "book_at(reflect('java.lang.System', 'getenv', 'CANARY'), now())",
    "LATERAL explode(array(reflect('java.lang.System', 'getenv', 'CANARY')))",
)
STATEMENTS = (
    "EXECUTE IMMEDIATE 'SELECT ref' || 'lect(''java.lang.System'', ''getenv'', ''CANARY'')'",
    "EXECUTE IMMEDIATE 'INSERT OVERWRITE DIRECTORY ''OUT'' US' || 'ING parquet SELECT 1 AS a'",
    "INSERT OVERWRITE DIRECTORY 'OUT' USING parquet SELECT 1 AS a",
    "INSERT INTO delta.`TABLE` SELECT 1",
    "FROM events INSERT OVERWRITE DIRECTORY 'OUT' USING csv SELECT *",
    "WITH x AS (SELECT 1 AS a) INSERT OVERWRITE DIRECTORY 'OUT' USING csv SELECT * FROM x",
    "FROM events |> EXTEND reflect('java.lang.System', 'getenv', 'CANARY')",
    "FROM text.`FILE` |> LIMIT 1",
    "SELECT TRANSFORM(sequence) USING 'cat FILE' AS (line) FROM events",
    "FROM events MAP sequence USING 'cat FILE' AS line",
    "SELECT MAP(sequence) USING/* ( */'cat FILE' AS (line) FROM events",
    "SELECT REDUCE(sequence) USING 'cat FILE' FROM events",
    "CREATE TEMPORARY VIEW p USING text OPTIONS (path 'FILE')",
    "CREATE TABLE p USING text LOCATION 'OUT' AS SELECT 1 AS a",
    "CREATE TEMPORARY FUNCTION f AS 'java.lang.System'",
    "CACHE TABLE p OPTIONS ('storageLevel' 'DISK_ONLY') SELECT * FROM text.`FILE`",
    "DROP VIEW book",
    "DELETE FROM delta.`TABLE`",
    "UPDATE delta.`TABLE` SET a = 1",
    "MERGE INTO delta.`TABLE` t USING events e ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE TABLE books",
    "VACUUM '/tmp/t'",
    "OPTIMIZE delta.`TABLE`",
    "RESTORE delta.`TABLE` TO VERSION AS OF 0",
    "SET",
    "SET spark.sql.runSQLOnFiles = true",
    "SET VAR x = reflect('java.lang.System', 'getenv', 'CANARY')",
    "RESET",
    "DECLARE VARIABLE x = reflect('java.lang.System', 'getenv', 'CANARY')",
    "BEGIN SELECT reflect('java.lang.System', 'getenv', 'CANARY'); END",
    "ADD JAR 'FILE'",
    "ADD FILE 'FILE'",
    "LIST FILES",
    "USE default",
    "REFRESH 'FILE'",
    "ANALYZE TABLE books COMPUTE STATISTICS",
    "LOAD DATA INPATH 'FILE' INTO TABLE books",
    "CALL system.run()",
    "COMMENT ON TABLE books IS 'x'",
    "DESCRIBE HISTORY 'TABLE'",
    "DESCRIBE DETAIL delta.`TABLE`",
    "DESCRIBE DATABASE default",
    "DESCRIBE CATALOG spark_catalog",
    "DESCRIBE EXTENDED delta.`TABLE`",
    "DESCRIBE FUNCTION reflect",
    "DESCRIBE secret",
    "SHOW CREATE TABLE books",
    "SHOW TBLPROPERTIES books",
    "SHOW COLUMNS IN secret IN default",
    "SHOW CATALOGS",
    "SHOW DATABASES",
    "SHOW CURRENT NAMESPACE",
    "SHOW TABLES IN default",
    "SHOW PARTITIONS delta.`TABLE`",
    "SELECT 1; SELECT 2",
    "/* /* */ SELECT */ DROP VIEW book",
    "-- \\\nSELECT 1\nDROP VIEW book",
    "",
    ";",
    "SELECT",
    "SELECT 'open",
    "SELECT (((((",
)
PLACES = (
    "SELECT {}",
    "SELECT 1 AS a, {} AS b FROM events",
    "SELECT * FROM books WHERE {} = 'x'",
    "SELECT count(*) FROM books GROUP BY {}",
    "SELECT count(*) FROM books HAVING max({}) > 'x'",
    "SELECT * FROM books ORDER BY {}",
    "SELECT * FROM books t JOIN events e ON {} = 'x'",
    "SELECT 1 LIMIT length({})",
    "SELECT 1 OFFSET length({})",
    "VALUES ({})",
    "SELECT * FROM VALUES (1, {}) AS t(a, b)",
    "WITH x AS (SELECT {} AS a) SELECT * FROM x",
    "WITH x AS (SELECT 1), y AS (WITH z AS (SELECT {} AS a) SELECT * FROM z) SELECT * FROM y",
    "SELECT 1 AS a UNION ALL SELECT {}",
    "(SELECT 1 AS a) EXCEPT (SELECT {})",
    "SELECT * FROM (SELECT {} AS a) AS s",
    "SELECT (SELECT {})",
    "SELECT sum(1) OVER (PARTITION BY {})",
    "SELECT coalesce(NULL, concat('a', {}))",
    "SELECT filter(array('a'), x -> x = {})",
    "SELECT named_struct('a', {}).a",
    "SELECT map('a', {})['a']",
    "SELECT e FROM books LATERAL VIEW explode(array({})) s AS e",
    "SELECT * FROM book_at({}, now())",
    "SELECT * FROM range(5) TABLESAMPLE (10 ROWS) WHERE {} = 'x'",
    "SELECT /*+ BROADCAST(t) */ {} FROM books t",
    "FROM books SELECT {}",
    "EXPLAIN SELECT {}",
    "EXPLAIN FORMATTED SELECT {}",
    "DESCRIBE QUERY SELECT {} AS a",
    "SELECT CASE WHEN true THEN {} END",
)
"""Where an expression may stand."""
NAME_PLACES = (
    "TABLE {}",
    "DESCRIBE {}",
    "DESCRIBE TABLE {}",
    "SHOW COLUMNS IN {}",
    "EXPLAIN TABLE {}",
)
CALL_PLACES = (
    "SELECT * FROM {}",
    "SELECT 1 FROM books t, {}",
    "SELECT 1 FROM books JOIN {}",
    "SELECT 1 FROM books LEFT JOIN (SELECT * FROM {}) s ON true",
    "WITH x AS (SELECT * FROM {}) SELECT * FROM x",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM {})",
    "SELECT 1 UNION ALL SELECT 1 FROM {}",
    "FROM {} SELECT 1",
    "EXPLAIN SELECT * FROM {}",
    "SELECT * FROM (SELECT * FROM {}) PIVOT (count(*) FOR value IN ('a'))",
)
PREFIXES = (
    "",
    "EXPLAIN ",
    "EXPLAIN EXTENDED ",
    "EXPLAIN CODEGEN ",
    "DESCRIBE ",
    "DESCRIBE QUERY ",
    "  ",
    "/* x */ ",
)
_SPACES = (" ", "\t", "\n", "  ", "/**/", " /* a */ ", " -- b\n", "\u00a0", "\u2003", "\f")
_NOISE = (
    "`",
    "'",
    '"',
    "\\",
    "/*",
    "*/",
    "--",
    ";",
    "(",
    ")",
    ",",
    "\0",
    "\u0130",
    "\u212a",
    "$",
    "{",
    "}",
    "|>",
    "@",
    "::",
    "->",
    "=>",
)


def composed() -> st.SearchStrategy[str]:
    """Statements, every one of which must be refused."""
    expressions = st.recursive(
        st.sampled_from(EXPRESSIONS),
        lambda inner: st.sampled_from(
            (
                "concat({}, 'x')",
                "({})",
                "CASE WHEN {} = 'x' THEN 1 END",
                "(SELECT {})",
                "array({})[0]",
                "{} || 'x'",
            )
        ).flatmap(lambda around: inner.map(lambda part: around.replace("{}", part))),
        max_leaves=3,
    )
    relations = st.sampled_from(RELATION_NAMES + RELATION_CALLS)
    queries = st.one_of(
        _placed(PLACES, expressions),
        _placed(CALL_PLACES, relations),
        _placed(NAME_PLACES, st.sampled_from(RELATION_NAMES)),
    )
    return st.one_of(
        queries,
        st.tuples(st.sampled_from(PREFIXES), st.sampled_from(STATEMENTS)).map("".join),
        queries.map(lambda query: f"SELECT * FROM ({query})"),
        queries.map(lambda query: f"WITH first AS (SELECT 1), second AS ({query}) SELECT * FROM second"),
    )


def mangled() -> st.SearchStrategy[str]:
    """Statements with other spaces, cases and stray characters: refused, or harmless."""
    changes = st.lists(st.tuples(st.integers(0, 400), st.sampled_from(_SPACES + _NOISE)), max_size=4)
    return st.tuples(composed(), changes, st.booleans()).map(_mangle)


def spliced() -> st.SearchStrategy[str]:
    """Honest queries with names and literals of others, and hostile ones, among theirs; many are valid."""
    words = sorted({word for query in HONEST for word in _WORDS.findall(query) if word.islower()})
    hostile = (
        *EXPRESSIONS,
        *RELATION_NAMES,
        "reflect",
        "`java_method`",
        "table_changes",
        "session_user",
        "version",
    )
    changed = st.one_of(st.sampled_from(words), st.sampled_from(words), st.sampled_from(hostile))
    changes = st.lists(st.tuples(st.integers(0, 200), changed), min_size=1, max_size=2)
    return st.tuples(st.sampled_from(HONEST), changes).map(_splice)


def _splice(drawn: tuple[str, list[tuple[int, str]]]) -> str:
    parts = _WORDS.split(drawn[0])  # words and literals stand at odd places
    for at, word in drawn[1]:
        parts[1 + 2 * (at % (len(parts) // 2))] = word
    return "".join(parts)


def _placed(places: tuple[str, ...], parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(places), parts).map(lambda pair: pair[0].replace("{}", pair[1]))


def _mangle(drawn: tuple[str, list[tuple[int, str]], bool]) -> str:
    text, changes, is_upper = drawn
    for at, inserted in changes:
        place = at % (len(text) + 1)
        text = text[:place] + inserted + text[place:]
    return text.upper() if is_upper else text


_WORDS = re.compile(r"(\b[A-Za-z_]\w*\b|'[^']*')")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'")
_QUOTED = re.compile(r"`(?:[^`]|``)*`")
_NUMBER = re.compile(r"(?<![\w.])\d+\.?\d*(?:e[+-]?\d+)?(?:bd|[lsydf])?(?!\w)", re.IGNORECASE)
_KEYWORDS = """
all and any anti array as asc between bigint binary boolean both by case cast codegen collate cost cross
cube current utf8_lcase date day decimal desc dow describe distinct distribute div double else end escape
except exclude exists explain extended extract false filter float following for formatted from full
function functions group grouping having hour hours hint ignore ilike in include inner int intersect
interval is join last lateral leading left like limit map minute month natural not null nulls of offset
on or order out outer over overlay partition percent pivot placing preceding query range recursive
repeatable respect right rlike rollup row rows select semi sets show smallint sort string struct
substring table tables tablesample then timestamp timestamp_ltz timestamp_ntz time tinyint to trailing
trim true try_cast unbounded union unpivot user using values variant view views void when where window
with within x year years days minutes seconds months second columns system bucket first cluster
"""
_SYNTAX = frozenset(_KEYWORDS.split())


def only_known_words(text: str) -> bool:
    """Whether a generated statement has known words and signs alone outside quotes, and no path as relation.

    It cuts the text as Spark's lexer does, and knows nothing of sqlglot.
    """
    bare = _NUMBER.sub(" ", _QUOTED.sub(" ", _LITERAL.sub(" ", text)))
    strange = re.search(r"[`'\"\\;{}$@#?]|--|/\*(?!\+)|\|>|[^ -~]", bare)
    known = BUILTINS | HINTS | {*FUNCTIONS} | _SYNTAX
    words = {word.lower() for word in re.findall(r"[A-Za-z_]\w*", bare)}
    unknown = words - known - {"x"}  # of X'1F'
    relations = re.sub(r"(EXTRACT|TRIM)\([^()]*? FROM", "", text)  # from which no relation is read
    qualified = re.search(r"\b(FROM|JOIN|TABLE) `(?:[^`]|``)*`\.", relations)
    return not (strange or unknown or qualified)


def plan_parts(plan: Any) -> tuple[set[str], set[str], set[str]]:
    """Return the classes, functions and relations of a plan that Spark has parsed."""
    classes: set[str] = set()
    functions: set[str] = set()
    relations: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for one in node:
                walk(one)
        elif isinstance(node, dict):
            name = str(node.get("class", "")).rsplit(".", 1)[-1]
            classes.add(name)
            if name in ("UnresolvedFunction", "UnresolvedTableValuedFunction"):
                functions.add(str(node.get("nameParts") or node.get("name")).strip("[]").lower())
            if name in ("UnresolvedRelation", "UnresolvedTableOrView"):
                relations.add(str(node["multipartIdentifier"]).strip("[]").lower())
            for value in node.values():
                walk(value)

    walk(json.loads(plan.toJSON()))
    return classes, functions, relations
