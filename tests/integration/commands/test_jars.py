"""The JARs of Spark and Delta: the audit lists every JAR, and sessions agree with `conf/jars.md`."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from deltabook.jobs.tools import audit
from deltabook.jobs.tools.audit import Artifact

NAMED = ["lz4-java", "jackson-databind", "netty-common", "log4j-core", "derby"]


def jar(folder: Path, name: str, *poms: str, manifest: str = "") -> Path:
    """A JAR with the `pom.properties` of artifacts, given as group:name:version."""
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\n{manifest}\n")
        for group, artifact, version in (pom.split(":") for pom in poms):
            text = f"#made by Maven\nversion={version}\r\ngroupId={group}\nartifactId={artifact}\n"
            archive.writestr(f"META-INF/maven/{group}/{artifact}/pom.properties", text)
    return folder / name


@pytest.mark.parametrize(
    ("name", "poms", "manifest", "expected"),
    [
        ("a-b-1.2.jar", ["g.x:a-b:1.2"], "", Artifact("g.x", "a-b", "1.2")),
        ("a-b-1.2-linux-x86_64.jar", ["g.x:a-b:1.2"], "", Artifact("g.x", "a-b", "1.2")),
        ("a-b-1.2.jar", ["g.x:b:1.2", "g.x:a-b:1.2", "h:c:3"], "", Artifact("g.x", "a-b", "1.2")),
        (
            "io.delta_delta-spark_4.1_2.13-4.4.0.jar",
            [],
            "",
            Artifact("io.delta", "delta-spark_4.1_2.13", "4.4.0"),
        ),
        ("derby-10.16.1.1.jar", [], "", Artifact("org.apache.derby", "derby", "10.16.1.1")),
        ("z-2.jar", ["h:c:3"], "Implementation-Vendor-Id: org.z", Artifact("org.z", "z", "2")),
        ("z-2.jar", [], "", Artifact("", "z", "2")),
        ("nameless.jar", [], "", Artifact("", "nameless", "")),
    ],
)
def test_jar_is_named_by_its_own_pom_else_by_its_file_and_manifest(tmp_path, name, poms, manifest, expected):
    assert audit.identify_jar(jar(tmp_path, name, *poms, manifest=manifest)) == expected


def test_component_has_a_package_url_a_hash_and_what_was_packed_into_it(tmp_path):
    path = jar(tmp_path, "a-1.jar", "g:a:1", "h:inner:2")
    (component,) = audit.make_bill_of_materials([path])["components"]
    assert (component["purl"], component["version"]) == ("pkg:maven/g/a@1", "1")
    assert component["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}
    ]
    assert [inner["purl"] for inner in component["components"]] == ["pkg:maven/h/inner@2"]
    assert Artifact("", "x", "1").purl == "pkg:generic/x@1"


def test_every_jar_of_the_installation_is_listed_with_its_group_and_the_review_is_of_these_versions():
    jars = audit.list_jars()
    components = audit.make_bill_of_materials(jars)["components"]
    assert len(components) == len(jars) > 250
    assert len({component["bom-ref"] for component in components}) == len(jars)
    assert [component["name"] for component in components if not component.get("group")] == []
    assert {"io.delta", "org.apache.spark"} <= {component["group"] for component in components}
    assert set(NAMED) <= audit.read_reviewed_versions().keys()
    assert audit.find_stale_reviews(jars) == []


def test_version_that_was_not_reviewed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "read_reviewed_versions", lambda: {"a": "1", "b": "1"})
    (told, gone) = audit.find_stale_reviews([jar(tmp_path, "a-2.jar", "g:a:2")])
    assert "a 1 is reviewed in jars.md, found 2" in told
    assert "b 1 is reviewed in jars.md, found none" in gone


def test_audit_prints_vulnerabilities_and_unknown_packages(tmp_path, capsys):
    report, listed = tmp_path / "faults.json", tmp_path / "jars.json"
    assert audit.main([str(report), str(listed)]) == 0
    assert (
        "not looked up: all packages: the list of vulnerabilities was not reachable"
        in capsys.readouterr().out
    )
    assert json.loads(listed.read_text())["bomFormat"] == "CycloneDX"
    fault = {"id": "CVE-1", "fix_versions": ["2"]}
    packages = [{"name": "a", "version": "1", "vulns": [fault]}, {"name": "b", "skip_reason": "not found"}]
    report.write_text(json.dumps({"dependencies": [*packages, {"name": "c", "version": "1", "vulns": []}]}))
    assert audit.main([str(report), str(listed)]) == 1
    told = capsys.readouterr().out
    assert "vulnerability: a 1: CVE-1, fixed in ['2']" in told
    assert "not looked up: b: not found" in told and "c 1" not in told


def test_log4j_has_a_console_appender_with_a_pattern_alone():
    text = files("deltabook.conf").joinpath("log4j2.properties").read_text()
    kinds = re.findall(r"^appender\.\w+\.(?:layout\.)?type *= *(\w+)", text, re.MULTILINE)
    assert kinds == ["Console", "PatternLayout"]


@pytest.mark.spark
def test_session_keeps_its_catalog_in_memory_its_ports_on_loopback_and_lz4_unloaded(spark):
    assert spark.conf.get("spark.sql.catalogImplementation") == "in-memory"
    frame = spark.range(1000).repartition(4).groupBy("id").count()
    assert frame.count() == 1000  # through a shuffle
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()
    listening = [line.split()[1] for line in _sockets(pid) if line.split()[3] == "0A"]
    assert listening and all(re.match(r"0100007F:|0000000000000000FFFF00000100007F:", at) for at in listening)
    if shutil.which("jcmd") is None:
        pytest.skip("this Java has no jcmd")
    told = subprocess.run(
        ["jcmd", str(pid), "VM.class_hierarchy"], capture_output=True, text=True, check=True
    ).stdout
    assert "org.apache.spark.SparkContext" in told
    assert [
        name for name in ("net.jpountz.", "org.apache.derby.", "io.netty.handler.codec.http.") if name in told
    ] == []


def _sockets(pid: int) -> list[str]:
    """Lines of the process's TCP sockets, of both kinds of address."""
    inodes = {
        match[1]
        for handle in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.fullmatch(r"socket:\[(\d+)\]", _target(handle)))
    }
    lines = [
        line
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [line for line in lines if line.split()[9] in inodes]


def _target(handle: Path) -> str:
    try:
        return str(handle.readlink())
    except OSError:  # it was closed
        return ""
