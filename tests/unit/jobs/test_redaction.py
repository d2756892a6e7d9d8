"""Keys and passwords are removed from all that is printed or stored."""

import json

import pytest

from deltabook.jobs.console.redaction import redact
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.tables import RUNS

SECRETS = {
    "jdbc://user:hush@host/x failed": "jdbc://***@host/x failed",
    "spark.hadoop.fs.s3a.secret.key=hush, next": "spark.hadoop.fs.s3a.secret.key=***, next",
    'aws_secret_access_key: "hush"': 'aws_secret_access_key: "***"',
    json.dumps({"password": "hush", "files": 2}): '{"password": "***", "files": 2}',
    json.dumps({"reason": json.dumps({"session_token": "hush"})}): json.dumps(
        {"reason": json.dumps({"session_token": "***"})}
    ),
}
HARMLESS = (
    "deltabook: time '2024-08-09T00:01': expected ISO 8601",
    "row 7 of captures/a.gz: field `p`: expected a number, found key: {}",
    "serving at jdbc:hive2://127.0.0.1:10000/",
)


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_secrets_are_cut_out_and_nothing_else(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays(text):
    assert redact(text) == text


def test_error_does_not_print_the_key_of_an_address(deltabook, tmp_path):
    told = deltabook("run", "binance", "s3a://AKIA1:hush@bucket/raw", "--warehouse", tmp_path / "w")
    assert told.exit_status == 2
    assert "bucket/raw" in told.stderr
    assert "hush" not in told.stderr + told.stdout


@pytest.mark.spark
def test_what_a_run_keeps_has_no_secret(deltabook, spark, tmp_path):
    warehouse = Warehouse(spark, load_settings(None, {"warehouse": tmp_path / "w"}))
    with warehouse.writing("ingest") as run:
        run.summary["refused"] = [{"path": "s3a://AKIA1:hush@bucket/raw", "reason": "password=hush"}]
    (kept,) = warehouse.rows(RUNS)
    assert "bucket/raw" in kept["summary"]
    assert "hush" not in kept["summary"]
