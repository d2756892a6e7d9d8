"""`deltabook sql` reads its warehouse, and nothing else."""

from __future__ import annotations

import json

import pytest
from captures import simulated_lines, write
from faulted import build

from deltabook.jobs.queries.allowed import ForbiddenQueryError, require_reading

FORBIDDEN = {
    "DROP VIEW book": "DROP at the beginning",
    "SET spark.sql.ansi.enabled=false": "SET",
    "ADD JAR '/tmp/x.jar'": "ADD",
    "BEGIN SELECT 1; END": "BEGIN",
    "EXECUTE IMMEDIATE 'DROP VIEW book'": "EXECUTE",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x": "INSERT",
    "FROM events INSERT OVERWRITE DIRECTORY '/tmp/x' USING csv SELECT *": "INSERT",
    "SELECT reflect('java.lang.System', 'exit', 1)": "REFLECT",
    r"SELECT r'\', java_method('java.lang.System', 'exit', 1), ''": "JAVA_METHOD",
    "SELECT * FROM table_changes_by_path('/tmp/t', 0)": "TABLE_CHANGES_BY_PATH",
    "DESCRIBE HISTORY '/tmp/t'": "HISTORY",
    "SELECT TRANSFORM(sequence) USING 'cat /etc/passwd' AS (line) FROM events": "USING without",
    "SELECT MAP(sequence) USING/* ( */'cat' AS (line) FROM events": "USING without",
    "/* /* */ SELECT */ DROP VIEW book": "a comment at the beginning",
    "-- \\\nSELECT 1\nDROP VIEW book": "a comment at the beginning",
    "": "a comment at the beginning",
}
FORMATS = ("text", "csv", "binaryFile", "delta", "org.apache.spark.sql.execution.datasources.text")
BY_SPARK = (
    "SELECT 1; SELECT 2",
    "DESCRIBE TABLE delta.`{}`",
    "TABLE delta.`{}`",
    "SHOW COLUMNS IN delta.`{}`",
)
ALLOWED = (
    "SELECT * FROM trades JOIN events USING (exchange, symbol)",
    "  (SELECT transform(bid_prices, price -> price + 1) FROM book) -- prices",
    "WITH one AS (SELECT 1) SELECT * FROM one",
    "FROM book |> LIMIT 1",
    "DESCRIBE TABLE books",
    "SHOW VIEWS",
)


@pytest.mark.parametrize("text", FORBIDDEN)
def test_what_does_more_than_read_is_refused_by_name(text):
    with pytest.raises(ForbiddenQueryError, match=FORBIDDEN[text]) as error:
        require_reading(text)
    assert "--unsafe" in str(error.value)


@pytest.mark.parametrize("text", ALLOWED)
def test_what_reads_is_allowed(text):
    require_reading(text)


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("allowed")
    capture = write(folder / "raw.gz", list(simulated_lines(60)))
    assert build("binance", [capture], folder / "w").exit_status == 0
    (folder / "secret.txt").write_text("not yours\n")
    return folder


@pytest.mark.spark
@pytest.mark.parametrize(
    "of", ["text", "csv", "binaryFile", "delta", "org.apache.spark.sql.execution.datasources.text"]
)
def test_a_path_is_no_relation(deltabook, warehouse, of):
    path = warehouse / ("w/events" if of == "delta" else "secret.txt")
    statement = f"SELECT count(*) AS n FROM {of}.`{path}`"
    for asked in (statement, f"SELECT * FROM (WITH x AS ({statement}) SELECT * FROM x)"):
        told = deltabook("sql", asked, "--warehouse", warehouse / "w", "--format", "json")
        assert told.exit_status == 2, told.stdout
        assert told.stdout == ""
    if "." not in of:
        told = deltabook("sql", statement, "--warehouse", warehouse / "w", "--format", "json", "--unsafe")
        assert json.loads(told.stdout)["n"] > 0


@pytest.mark.spark
@pytest.mark.parametrize(
    "statement",
    ["SELECT 1; SELECT 2", "DESCRIBE TABLE delta.`{}`", "TABLE delta.`{}`", "SHOW COLUMNS IN delta.`{}`"],
)
def test_spark_holds_the_rest(deltabook, warehouse, statement):
    asked = statement.format(warehouse / "w" / "events")
    told = deltabook("sql", asked, "--warehouse", warehouse / "w")
    assert (told.exit_status, told.stdout) == (2, "")
