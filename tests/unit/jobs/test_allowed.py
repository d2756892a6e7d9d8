"""The check of queries refuses all queries that leave the warehouse, and allows honest queries."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from itertools import product

import hostile_queries as hostile
import pytest
from honest_queries import COMMANDS, HONEST, queries
from hypothesis import given
from hypothesis import strategies as st
from places import PROJECT
from properties import cases

from deltabook.jobs.queries.allowed import check_statement
from deltabook.jobs.queries.dialect import decode_string, encode_string
from deltabook.jobs.queries.query_tree import ForbiddenQueryError
from deltabook.jobs.queries.views import RELATIONS

ROOT = PROJECT
PAGES = ("README.md", "jobs/README.md", "jobs/queries/README.md")
DOCUMENTED = [
    statement
    for page in PAGES
    for text in [(ROOT / page).read_text()]
    for statement in (
        *re.findall(r"```sql\n(.*?)\n```", text, re.DOTALL),
        *re.findall(r"deltabook sql\b[^\"\n]*\"(.*?)\"", text, re.DOTALL),
        *re.findall(r"-e \"(SELECT .*?)\"", text, re.DOTALL),
        *re.findall(r"`((?:DESCRIBE|SHOW) [^`]*[a-z][^`]*)`", text),
    )
]
REFUSED = {
    "DROP VIEW book": "DROP at the beginning",
    "SET spark.sql.ansi.enabled=false": "SET at the beginning",
    "EXECUTE IMMEDIATE 'SELECT 1'": "EXECUTE at the beginning",
    "": "nothing at the beginning",
    "SELECT 1; SELECT 2": "more than one statement",
    "SELECT reflect('java.lang.System', 'exit', 1)": "function reflect",
    "SELECT `Java_Method`('java.lang.System', 'exit', 1)": "function java_method",
    "SELECT a.b.reflect('x')": "a name before reflect",
    "SELECT current_user": "function current_user",
    "SELECT * FROM table_changes_by_path('/tmp/t', 0)": "function table_changes_by_path",
    "SELECT * FROM text.`/etc/passwd`": "relation text./etc/passwd",
    "SELECT * FROM secret": "relation secret",
    "SELECT * FROM (WITH secret AS (SELECT 1) SELECT 1) JOIN secret": "relation secret",
    "SELECT * FROM books VERSION AS OF 1": "VERSION of TABLE",
    "FROM book |> LIMIT 1": r"the pipe syntax \|>",
    "SELECT '${env:HOME}'": "variable substitution",
    "SELECT :name": "PLACEHOLDER",
    "SELECT 1 +": "SQL that cannot be parsed",
    "SELECT 'open": "SQL that cannot be parsed",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x": "INSERT",
    "SELECT * REPLACE (1 AS a) FROM books": "REPLACE of STAR",
    "SELECT /*+ UNKNOWN(books) */ * FROM books": "hint unknown",
    "DESCRIBE FUNCTION reflect": "function reflect",
    "DESCRIBE HISTORY '/tmp/t'": "DESCRIBE at the beginning",
    "SHOW CREATE TABLE books": "SHOW at the beginning",
    "TABLE `/tmp/t`": "relation /tmp/t",
    "SELECT _metadata.file_path FROM books": "column _metadata",
    "SELECT extract(m\u0131nute FROM time) FROM trades": "word m",
    "SELECT 'a' COLLATE UTF8_LCA\u017fE": "word UTF8_LCA",
    "SELECT * FROM \x1b[31mred": "SQL that cannot be parsed|relation",
}
"""Statements, and how the message begins."""


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_named_with_the_remedy(text):
    message = f"^({REFUSED[text]}).* is not allowed: .*--unsafe"
    with pytest.raises(ForbiddenQueryError, match=message) as error:
        check_statement(text)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", queries(COMMANDS) + DOCUMENTED)
def test_commands_and_examples_of_the_documentation_are_allowed(text):
    check_statement(text)


def test_examples_of_every_page_were_found():
    assert len(DOCUMENTED) >= 19
    assert any("stages" in text for text in DOCUMENTED)


def test_honest_queries_are_allowed_and_what_is_generated_stays_as_it_is():
    assert len(HONEST) >= 190
    for text in HONEST:
        checked = check_statement(text)
        assert check_statement(checked.text) == checked
        assert hostile.only_known_words(checked.text)


def test_every_hostile_part_is_refused_at_every_place():
    statements = [
        place.replace("{}", part)
        for places, parts in (
            (hostile.PLACES, hostile.EXPRESSIONS),
            (hostile.CALL_PLACES, hostile.RELATION_NAMES + hostile.RELATION_CALLS),
            (hostile.NAME_PLACES, hostile.RELATION_NAMES),
            (tuple(f"{prefix}{{}}" for prefix in hostile.PREFIXES), hostile.STATEMENTS),
        )
        for place, part in product(places, parts)
    ]
    assert len(statements) > 2_500
    for text in statements:
        with pytest.raises(ForbiddenQueryError):
            check_statement(text)


@cases(500)
@given(hostile.composed())
def test_statements_of_hostile_parts_are_refused(text):
    with pytest.raises(ForbiddenQueryError):
        check_statement(text)


@cases(600)
@given(st.one_of(hostile.mangled(), hostile.spliced()))
def test_whatever_is_allowed_has_known_words_and_relations_alone(text):
    try:
        checked = check_statement(text)
    except ForbiddenQueryError:
        return
    assert hostile.only_known_words(checked.text)
    assert checked.relations <= RELATIONS
    assert check_statement(checked.text) == checked


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT reflect('a')", "SELECT * FROM `text`.`/x`", "SELECT a FROM x -- b", "SELECT /* x */ 1"),
        *("SELECT 'a'; SELECT 1", "SELECT $", "SELECT 'it''", "SELECT é"),
    ],
)
def test_the_scan_of_words_finds_what_must_not_be_there(text):
    assert not hostile.only_known_words(text)


@cases(300)
@given(st.text())
def test_string_literals_are_printable_ascii_and_mean_the_text(text):
    literal = encode_string(text)
    assert literal.isascii() and literal.isprintable()
    assert decode_string(literal).encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
        "SELECT 1" + " + 1" * 20_000,
    ],
    ids=["parentheses", "sums"],
)
def test_statement_too_deep_to_be_checked_is_refused(text):
    limit = sys.getrecursionlimit()
    with pytest.raises(ForbiddenQueryError, match="SQL nested this deep"):
        check_statement(text)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT 1" + " + 1" * 1_000, "SELECT 1 WHERE 'a' = 'b'" + " OR 'a' = 'c'" * 1_000),
        *("SELECT " + "(" * 100 + "1" + ")" * 100, "SELECT 1 IN (" + "1, " * 5_000 + "1)"),
        *("SELECT 1" + " UNION ALL SELECT 1" * 500,),
    ],
    ids=["sum", "conditions", "parentheses", "list", "union"],
)
def test_long_honest_queries_are_allowed(text):
    check_statement(text)


def test_nested_calls_are_checked_in_a_moment():
    deep = "SELECT " + "struct(date(array(map(" * 8 + "1" + "))))" * 8
    started = time.monotonic()
    check_statement(deep)
    assert time.monotonic() - started < 2


def test_the_command_line_starts_without_the_parser():
    script = "import sys, deltabook.jobs.cli; sys.exit('sqlglot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
