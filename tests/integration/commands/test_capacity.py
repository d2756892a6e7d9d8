"""The capacity plan: the estimates agree with the benchmarks, and the page agrees with the command."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from conftest import invoke

from deltabook.jobs.lookup.capacity import (
    COEFFICIENTS,
    MEASURED_TO,
    describe_limits,
    estimate_resources,
    list_estimate_rows,
    write_estimate_page,
)
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import FULL_DEPTH, RowPolicy

YEAR = {"symbols": 50, "updates": 8_000_000 / 3600, "months": 12}
CASES = [
    YEAR | {"depth": 20, "cadence": "change", "cores": None},
    YEAR | {"depth": 1, "cadence": "message", "cores": 2},
    YEAR | {"depth": 100, "cadence": "change,100ms,1s,1m", "cores": 64},
    {"symbols": 2000, "updates": 30, "months": 12, "depth": 20, "cadence": "1s", "cores": None},
    {"symbols": 1, "updates": 0.2, "months": 0.01, "depth": 5, "cadence": "100ms", "cores": 1},
    {"symbols": 3, "updates": 5000, "months": 1.5, "depth": 250, "cadence": "5m,1h", "cores": None},
]
"""From what is asked, the same answers in Python and in the page."""
NODE = """
const made = () => ({ value: "", textContent: "", rows: [], on: {},
  addEventListener(name, heard) { this.on[name] = heard; }, replaceChildren() { this.rows = []; },
  insertRow() { const row = []; this.rows.push(row); return { insertCell: () => {
    const at = row.push("") - 1; return { set textContent(text) { row[at] = text; } }; } }; } });
const elements = new Proxy({}, { get: (all, id) => (all[id] ??= made()) });
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
elements.model.textContent = given.model;
elements.bounds.textContent = given.bounds;
global.document = { getElementById: (id) => elements[id] };
const page = new Function(`${given.script}; return { planOf, rowsOf };`)();
const model = JSON.parse(given.model);
const answers = given.cases.map((asked) => {
  for (const [name, value] of Object.entries(asked)) elements[name].value = String(value ?? "");
  elements.asked.on.input();
  const told = { rows: elements.answers.rows, said: elements.said.textContent };
  try { told.found = page.planOf(model, asked); } catch (wrong) { told.wrong = wrong.message; }
  return told;
});
console.log(JSON.stringify(answers));
"""


def writing_of(cadence: str, depth: int = 20) -> RowPolicy:
    first, *grids = cadence.split(",")
    return RowPolicy(depth=depth, cadence=first, grids=tuple(grids))


def planned(case: dict) -> dict:
    how = {name: case[name] for name in ("symbols", "updates", "months", "cores")}
    return estimate_resources(writing=writing_of(case["cadence"], case["depth"]), **how)


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: dict[str, str] = {}
        self.within = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within = dict(attrs).get("id") or tag

    def handle_endtag(self, tag):
        self.within = ""

    def handle_data(self, data):
        self.texts[self.within] = self.texts.get(self.within, "") + data


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    out = tmp_path_factory.mktemp("plan") / "new" / "plan.html"
    write_estimate_page(planned(CASES[0]), out)
    return Page(out.read_text())


def answers_of(page: Page, cases: list[dict]) -> list[dict]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node found: the page's script is run by it")
    given = {"script": page.texts["script"], "model": page.texts["model"], "bounds": page.texts["bounds"]}
    command = [node, "-e", NODE]
    text = json.dumps(given | {"cases": cases})
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_a_year_of_fifty_symbols_takes_what_the_benchmark_says():
    found = planned(CASES[0])
    assert round(found["core_hours"]) == 492
    assert found["symbol_hours"] == 438_000
    assert found["core_hours_least"] < 492 / 1.3 and found["core_hours_most"] > 492 / 0.7
    assert found["beyond"] == ["hours"]
    assert ("core-hours", "492 (376 to 713)", "2 % symbol-hours, 98 % level changes") in list_estimate_rows(
        found
    )


def test_the_estimate_of_the_longest_measured_run_is_within_the_residual():
    seconds = 3.56 + 2.57  # an ingest and a rebuild of 34 symbol-hours, 16 M changes: scaling
    found = estimate_resources(1, 16e6 / 34 / 3600, RowPolicy(), 34 / 730)
    assert found["core_hours_least"] < seconds * 2 / 3600 < found["core_hours_most"]


def test_times_follow_depth_and_cadence_as_measured():
    def rebuilding(cadence, depth):
        found = estimate_resources(writing=writing_of(cadence, depth), **YEAR)
        read = COEFFICIENTS["ingest_million"].value * found["level_changes"] / 1e6
        read += COEFFICIENTS["ingest_hour"].value * found["symbol_hours"]
        return found["core_hours"] * 1800 - read

    usual = rebuilding("change", 20)
    for cadence, depth, factor in [
        ("message", 20, 1.13), ("100ms", 20, 0.94), ("1s", 20, 0.74), ("change,100ms,1s", 20, 1.2),
        ("change", 1, 0.64), ("change", 100, 1.69), ("change", 60, 1.345),
    ]:  # fmt: skip
        assert rebuilding(cadence, depth) / usual == pytest.approx(factor, rel=1e-3)


def test_a_step_has_no_more_rows_than_one_and_none_has_more_than_messages():
    rows = {
        cadence: estimate_resources(1, 500, writing_of(cadence), 1)["book_rows"]
        for cadence in ("message", "change", "1ms", "1s", "1m")
    }
    seconds = 730 * 3600
    assert rows["message"] > rows["change"] == rows["1ms"] > rows["1s"] == seconds == 60 * rows["1m"]
    assert estimate_resources(1, 0.1, writing_of("1s"), 1)["book_rows"] < 0.1 * seconds


def test_further_steps_are_grids_and_files_of_their_own():
    one, two = (estimate_resources(2, 500, writing_of(cadence), 1) for cadence in ("change", "change,1s"))
    assert (one["files"], two["files"]) == (2 * 730 * 3, 2 * 730 * 4)
    assert one["bytes"]["grids"] == 0 and two["grid_rows"] == 2 * 730 * 3600
    assert two["bytes"]["grids"] > two["grid_rows"] * 91
    assert two["bytes"]["books"] == one["bytes"]["books"]
    assert two["bytes_kept"] == pytest.approx(one["bytes_kept"] + two["bytes"]["grids"])


def test_given_cores_are_used_and_default_cores_finish_in_a_day():
    assert estimate_resources(cores=2, writing=RowPolicy(), **YEAR)["hours"] == pytest.approx(246, rel=1e-3)
    found = planned(CASES[0])
    assert found["hours"] < found["hours_judged_json"] <= 24
    assert found["core_hours_judged_json"] / (found["cores"] - 1) > 24
    assert found["memory_gib"] == pytest.approx(0.7 + 1.15 * found["cores"])


def test_every_share_of_an_answer_has_its_part():
    for case in CASES:
        found = planned(case)
        for name, shares in found["drivers"].items():
            none = name == "grids" and not found["bytes"]["grids"]
            assert sum(shares.values()) == pytest.approx(0 if none else 1)


def test_what_was_not_measured_is_said():
    assert planned(CASES[5])["beyond"] == ["hours", "changes an hour", "levels"]
    within = estimate_resources(64, 2000, writing_of("change", 100), 32 / 730)
    assert within["beyond"] == []
    assert describe_limits(within).startswith("Linear fits") and "31 %" in describe_limits(within)
    assert describe_limits(planned(CASES[3])).startswith("Beyond the measured range: symbols, hours. ")
    for most in MEASURED_TO.values():
        assert re.search(rf"\b{most / 1e6:g} M\b" if most >= 1e6 else rf"\b{most}\b", describe_limits(within))


@pytest.mark.parametrize("name", ["symbols", "updates", "months", "cores"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_numbers_that_mean_nothing_are_refused(name, value):
    with pytest.raises(SettingsError, match="above 0"):
        estimate_resources(**(YEAR | {"writing": RowPolicy(), name: value}))


def test_full_depth_is_refused_as_it_was_not_measured():
    with pytest.raises(SettingsError, match="give a number of levels per side"):
        estimate_resources(writing=RowPolicy(depth=FULL_DEPTH), **YEAR)


def test_page_computes_what_the_command_does(page):
    for case, answer in zip(CASES, answers_of(page, CASES), strict=True):
        expected = planned(case)
        assert answer["found"].keys() == expected.keys()
        assert answer["found"]["asked"] == expected["asked"]
        for name, value in expected.items():
            told = answer["found"][name]
            if name == "drivers":
                assert told.keys() == value.keys()
                for of, shares in value.items():
                    assert told[of] == pytest.approx(shares, rel=1e-9)
            elif name != "asked":
                assert told == (value if name == "beyond" else pytest.approx(value, rel=1e-9)), name
        assert answer["rows"] == [list(row) for row in list_estimate_rows(expected)]
        assert answer["said"] == describe_limits(expected)


def test_page_says_what_it_cannot_compute(page):
    usual = CASES[0]
    wrong = [("symbols", 0), ("symbols", 1.5), ("updates", -3), ("depth", "full"), ("cadence", "often"),
             ("cadence", "2d"), ("cadence", "1s,change"), ("cadence", "1s,1s"), ("cores", 0)]  # fmt: skip
    answers = answers_of(page, [usual | {name: value} for name, value in wrong] + [usual])
    for (name, _), answer in zip(wrong, answers, strict=False):
        assert answer["rows"] == [] and answer["said"] == answer["wrong"]
        assert answer["said"].startswith(name)
    assert len(answers[-1]["rows"]) == len(list_estimate_rows(planned(usual)))


def test_page_needs_no_network_and_runs_no_other_script(page):
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    script = hashlib.sha256(page.texts["script"].encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(script).decode()}'" in policy
    assert "default-src 'none'" in policy and "form-action 'none'" in policy
    assert not [attrs for _, attrs in page.tags if {"src", "href", "action", "onclick"} & attrs.keys()]
    model = json.loads(page.texts["model"])
    assert model.items() >= {name: one.value for name, one in COEFFICIENTS.items()}.items()
    assert all(one.source for one in COEFFICIENTS.values())


def test_command_prints_its_answers_and_writes_the_page(tmp_path):
    out = tmp_path / "plan.html"
    told = invoke("plan", "--symbols", 2000, "--updates", 30, "--cadence", "1s", "--out", out, "--json")
    assert told.exit_status == 0, told.said
    assert told.summary == json.loads(json.dumps(planned(CASES[3]))) | {"page": str(out), "exit_status": 0}
    shown = told.stdout.splitlines()
    for (name, value, why), line in zip(list_estimate_rows(planned(CASES[3])), shown, strict=False):
        assert line.startswith(name) and value in line and line.endswith(why)
        assert value in out.read_text()
    assert describe_limits(planned(CASES[3])) in shown
    assert invoke("plan", "--depth", "full").exit_status == 2
    assert invoke("plan", "--cadence", "often").exit_status == 2


@pytest.mark.real_data
def test_captures_have_the_estimated_messages_and_raw_bytes(real_data):
    for market, seconds, most in (("spot", 651, 0.26), ("usdm", 480, 0.5)):  # USD-M's stream was a faster one
        size = messages = changes = 0
        for path in sorted((real_data / "binance" / market).glob("*.gz")):
            size += path.stat().st_size
            for line in gzip.decompress(path.read_bytes()).splitlines():
                if b'"depthUpdate"' in line:
                    data = json.loads(line.split(b" ", 1)[1])["data"]
                    messages, changes = messages + 1, changes + len(data["b"]) + len(data["a"])
        found = estimate_resources(1, changes / seconds, RowPolicy(), seconds / 3600 / 730)
        assert found["messages"] == pytest.approx(messages, rel=most)
        assert found["bytes"]["raw"] == pytest.approx(size, rel=0.15)


@pytest.mark.spark
@pytest.mark.real_data
def test_captures_take_the_estimated_space(real_data, spark, tmp_path):
    raw = sorted((real_data / "binance" / "spot").glob("*.gz"))
    run = invoke("run", "binance", *raw, "--warehouse", tmp_path / "w", "--no-validate", "--json")
    assert run.exit_status == 0, run.said
    seconds = 651
    found = estimate_resources(1, run.summary["level_changes"] / seconds, RowPolicy(), seconds / 3600 / 730)
    assert found["book_rows"] == pytest.approx(sum(run.summary["book_rows"].values()), rel=0.1)
    for table in ("events", "books"):
        paths = [
            path for path in (tmp_path / "w" / table).rglob("*.parquet") if "_delta_log" not in path.parts
        ]
        assert sum(pq.ParquetFile(path).metadata.num_rows for path in paths) > 0
        assert found["bytes"][table] == pytest.approx(sum(path.stat().st_size for path in paths), rel=0.25)
