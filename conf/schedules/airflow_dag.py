"""An Airflow DAG (Airflow 3): every hour, what was recorded since the last run. Into the folder of DAGs."""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    "deltabook",
    schedule="17 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run takes all that is new, however many were missed
    max_active_runs=1,
):
    BashOperator(
        task_id="run",
        bash_command="/opt/deltabook/bin/deltabook run binance /srv/captures --once"
        " --warehouse /srv/books --json",
        skip_on_exit_code=4,  # another run is at work
        do_xcom_push=True,  # the last line: the JSON object
    )
