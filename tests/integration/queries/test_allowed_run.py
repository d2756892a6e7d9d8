"""Allowed queries return the right rows in Spark. Hostile queries read no secret and write nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import hostile_queries as hostile
import pytest
from captures import simulated_lines, write
from faulted import build
from honest_queries import HONEST
from hypothesis import given
from hypothesis import strategies as st
from properties import cases
from pyspark.errors import PySparkException

from deltabook.jobs.queries.allowed import check_statement
from deltabook.jobs.queries.builtins import BUILTINS
from deltabook.jobs.queries.functions import FUNCTIONS
from deltabook.jobs.queries.query_tree import ForbiddenQueryError
from deltabook.jobs.queries.sql import QueryError, prepare_query
from deltabook.jobs.queries.views import RELATIONS, Relations
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse

pytestmark = pytest.mark.spark
SECRET = "only for the owner"


@pytest.fixture(scope="module")
def folder(spark, tmp_path_factory):
    """A warehouse, a file beside it, and an environment variable and a property of the JVM: all secret."""
    folder = tmp_path_factory.mktemp("allowed")
    capture = write(folder / "raw.gz", list(simulated_lines(60)))
    assert build("binance", [capture], folder / "w").exit_status == 0
    (folder / "secret.txt").write_text(f"{SECRET}\n")
    system = spark._jvm.java.lang.System
    assert system.getenv(hostile.CANARY) == os.environ[hostile.CANARY]
    system.setProperty(hostile.CANARY, SECRET)
    yield folder
    system.clearProperty(hostile.CANARY)


@pytest.fixture(scope="module")
def warehouse(spark, folder):
    return Warehouse(spark, load_settings(None, {"warehouse": folder / "w"}))


@pytest.fixture(scope="module")
def relations(spark, warehouse):
    """Every table, view and function of the warehouse, in the session."""
    found = Relations(TableReader(warehouse.root, published_versions(warehouse.root)))
    for name in found.needed(RELATIONS):
        spark.sql(found.statement(name))


def content_of(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def in_folder(text: str, folder: Path) -> str:
    places = {"FILE": folder / "secret.txt", "TABLE": folder / "w" / "events", "OUT": folder / "out"}
    text = text.replace("CANARY", hostile.CANARY)
    for name, path in places.items():
        text = text.replace(f"{name}`", f"{path}`").replace(f"{name}'", f"{path}'")
    return text


def answer(warehouse: Warehouse, text: str, unsafe: bool = False) -> str | None:
    """What a query says, or its error; None if it was refused unrun."""
    try:
        return str(prepare_query(warehouse, text, unsafe).collect())
    except ForbiddenQueryError:
        return None
    except (QueryError, PySparkException) as error:
        return str(error)


def test_honest_queries_give_the_rows_and_columns_of_the_typed_ones(spark, relations):
    by_rows = 0
    for text in HONEST:
        typed, checked = spark.sql(text), spark.sql(check_statement(text).text)
        assert checked.schema == typed.schema, text
        if not checked.sameSemantics(typed):  # a plan of its own, as common table expressions have
            assert checked.collect() == typed.collect(), text
            by_rows += 1
    assert 0 < by_rows < 40


def test_rows_of_honest_queries_can_be_computed(warehouse):
    for text in HONEST[::40]:
        prepare_query(warehouse, text).collect()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT IDENTIFIER('ref'||'lect')('java.lang.System', 'getenv', 'CANARY') AS x",
        "SELECT java_method('java.lang.System', 'getProperty', 'CANARY')",
        "SELECT '${system:CANARY}'",
        "SELECT * FROM text.`FILE`",
        r"EXECUTE IMMEDIATE 'SELECT try_refl\u0065' 'ct(''java.lang.System'', ''getenv'', ''CANARY'')'",
    ],
)
def test_unsafe_statement_reads_the_secret_and_a_checked_one_is_refused(warehouse, folder, text):
    statement = in_folder(text, folder)
    assert SECRET in str(answer(warehouse, statement, unsafe=True))
    assert answer(warehouse, statement) is None


def test_unsafe_statement_writes_and_a_checked_one_is_refused(warehouse, folder):
    text = "EXPLAIN EXECUTE IMMEDIATE 'INSERT OVERWRITE DIRECTORY ''OUT'' US' || 'ING parquet SELECT 1 AS a'"
    statement = in_folder(text.replace("OUT", str(folder / "out")), folder)
    assert answer(warehouse, statement) is None
    assert not (folder / "out").exists()
    answer(warehouse, statement, unsafe=True)
    assert (folder / "out").exists()


def test_no_hostile_statement_reads_a_secret_or_writes(warehouse, folder, tmp_path):
    before, run = content_of(folder), 0

    @cases(250)
    @given(st.one_of(hostile.composed(), hostile.mangled(), hostile.spliced(), hostile.spliced()))
    def ask(text: str) -> None:
        nonlocal run
        told = answer(warehouse, in_folder(text.replace("OUT", str(tmp_path / "out")), folder))
        run += told is not None
        assert SECRET not in str(told)

    ask()
    assert run > 10
    assert content_of(folder) == before
    assert not [*tmp_path.iterdir()]


def test_spark_parser_finds_only_allowed_nodes_in_allowed_statements(spark, relations):
    parser = spark._jsparkSession.sessionState().sqlParser()
    honest = [hostile.plan_parts(parser.parsePlan(check_statement(text).text)) for text in HONEST]
    known_classes = set().union(*(classes for classes, _, _ in honest))
    assert not {name for name in known_classes if name.endswith("Command")}

    @cases(300)
    @given(st.one_of(hostile.spliced(), hostile.mangled()))
    def parse(text: str) -> None:
        try:
            checked = check_statement(text).text
        except ForbiddenQueryError:
            return
        try:
            plan = parser.parsePlan(checked)
        except Exception as error:
            assert "ParseException" in str(type(error)) or "PARSE" in str(error)
            return
        classes, functions, names = hostile.plan_parts(plan)
        assert classes <= known_classes | {"ExplainCommand"}
        assert functions <= BUILTINS | {*FUNCTIONS}
        assert not {name for name in names if "," in name or "/" in name}

    parse()


@pytest.mark.parametrize(
    "text", ["SELECT reflect('a')", "SELECT * FROM delta.`/x`", "SELECT 1 AS a |> EXTEND version()"]
)
def test_spark_parser_shows_forbidden_nodes(spark, text):
    plan = spark._jsparkSession.sessionState().sqlParser().parsePlan(text)
    classes, functions, names = hostile.plan_parts(plan)
    assert functions - BUILTINS or any("," in name for name in names)
    assert "Project" in classes


@cases(60)
@given(st.text(alphabet="ab'\"\\0123456789uUnrtZ%_xé€\n$", max_size=12))
def test_strings_are_decoded_as_in_spark(spark, body):
    literal = f"'{body.replace(chr(39), chr(92) + chr(39))}'"
    try:
        (row,) = spark.sql(f"SELECT {literal}").collect()
    except PySparkException:
        return
    (again,) = spark.sql(check_statement(f"SELECT {literal}").text).collect()
    assert row[0] == again[0]
