"""A step of `make audit`: list the JARs of Spark and Delta, and print known vulnerabilities of packages."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from deltabook.jobs.runtime.session import list_delta_jars
from deltabook.jobs.runtime.settings import load_settings
from deltabook.schemas.json_values import Json

REVIEW = "jars.md"
"""File in the folder `conf` that reviews published vulnerabilities. Each row of its table is about one JAR
and has the JAR's name and version."""
_POM = re.compile(r"META-INF/maven/([^/]+)/([^/]+)/pom\.properties")
_FILE = re.compile(r"(?:(?P<group>[a-z]+(?:\.[a-z0-9]+)+)_)?(?P<name>.+?)-(?P<version>\d[^/]*)\.jar")
_REVIEWED = re.compile(r"^\| `([^`]+)` ([^ |]+) \|", re.MULTILINE)
_GROUPS = {
    "RoaringBitmap": "org.roaringbitmap",
    "arpack_combined_all": "net.sourceforge.f2j",
    "derby": "org.apache.derby",
    "derbyshared": "org.apache.derby",
    "derbytools": "org.apache.derby",
    "hadoop-client-runtime": "org.apache.hadoop",
    "jdo-api": "javax.jdo",
    "jline": "org.jline",
    "jsr305": "com.google.code.findbugs",
    "jta": "javax.transaction",
    "libfb303": "org.apache.thrift",
    "libthrift": "org.apache.thrift",
    "lz4-java": "org.lz4",
    "objenesis": "org.objenesis",
    "oro": "oro",
    "rocksdbjni": "org.rocksdb",
    "scala-compiler": "org.scala-lang",
    "scala-library": "org.scala-lang",
    "scala-reflect": "org.scala-lang",
    "stax-api": "stax",
    "tink": "com.google.crypto.tink",
    "transaction-api": "javax.transaction",
    "xz": "org.tukaani",
}
"""Maven group by name of JAR, for JARs that do not contain their group."""


@dataclass(frozen=True)
class Artifact:
    """A Maven artifact: a JAR, or an artifact that was packed into a JAR.

    Attributes
    ----------
    group, name, version : str
        Maven coordinates. The group is empty if it is not known.
    """

    group: str
    name: str
    version: str

    @property
    def purl(self) -> str:
        """Package URL of the artifact."""
        if not self.group:
            return f"pkg:generic/{self.name}@{self.version}"
        return f"pkg:maven/{self.group}/{self.name}@{self.version}"

    def component(self) -> dict[str, Json]:
        """Return the artifact as a component of a CycloneDX document."""
        group: dict[str, Json] = {"group": self.group} if self.group else {}
        return {"type": "library", **group, "name": self.name, "version": self.version, "purl": self.purl}


def list_jars() -> list[Path]:
    """Return the JARs of a Spark session: PySpark's JARs, and Delta's JARs if they were fetched."""
    spec = find_spec("pyspark")
    assert spec is not None and spec.origin is not None  # PySpark is a dependency
    own = sorted((Path(spec.origin).parent / "jars").glob("*.jar"))
    return own + list_delta_jars(load_settings(None, {}))


def make_bill_of_materials(jars: Iterable[Path]) -> dict[str, Json]:
    """Return a CycloneDX document that lists JARs.

    Parameters
    ----------
    jars : iterable of Path
        Paths of the JARs.

    Returns
    -------
    dict
        A CycloneDX 1.6 document: one component per JAR, with its SHA-256 and the artifacts packed into it.
    """
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [_make_component(jar) for jar in jars],
    }


def read_reviewed_versions() -> dict[str, str]:
    """Return {name: version} of the JARs that `conf/jars.md` reviews."""
    return dict(_REVIEWED.findall(files("deltabook.conf").joinpath(REVIEW).read_text(encoding="utf-8")))


def find_stale_reviews(jars: Iterable[Path]) -> list[str]:
    """Return one line for each reviewed JAR that is missing or has another version than the review.

    Parameters
    ----------
    jars : iterable of Path
        Paths of the present JARs.

    Returns
    -------
    list of str
        Lines to print, such as "derby 10.16.1.1 is reviewed in jars.md, found none".
    """
    present: dict[str, set[str]] = {}
    for jar in jars:
        own = identify_jar(jar)
        present.setdefault(own.name, set()).add(own.version)
    versions = {name: ", ".join(sorted(present.get(name, ()))) or "none" for name in read_reviewed_versions()}
    return [
        f"{name} {version} is reviewed in {REVIEW}, found {versions[name]}"
        for name, version in read_reviewed_versions().items()
        if present.get(name) != {version}
    ]


def read_pip_audit(report: Path) -> tuple[list[str], list[str]]:
    """Return the vulnerabilities that pip-audit has found, and the packages that it could not look up.

    Parameters
    ----------
    report : Path
        JSON report of pip-audit. The file is missing if the list of vulnerabilities was not reachable.

    Returns
    -------
    (vulnerabilities, unknown) : (list of str, list of str)
        One line for each vulnerability of a package, and one line for each package that could not be looked
        up.
    """
    if not report.is_file():
        return [], ["all packages: the list of vulnerabilities was not reachable"]
    packages = json.loads(report.read_text())["dependencies"]
    vulnerabilities = [
        f"{package['name']} {package['version']}: {entry['id']}, fixed in {entry['fix_versions']}"
        for package in packages
        for entry in package.get("vulns", ())
    ]
    skipped = [package for package in packages if "skip_reason" in package]
    return vulnerabilities, [f"{package['name']}: {package['skip_reason']}" for package in skipped]


def identify_jar(jar: Path) -> Artifact:
    """Return the Maven artifact of a JAR, from its `pom.properties`, or else from its file name and manifest.

    Parameters
    ----------
    jar : Path
        Path of the JAR.
    """
    return _choose_own(jar, _read_packed(jar))


def _make_component(jar: Path) -> dict[str, Json]:
    """Return a JAR as a component of a CycloneDX document, with the artifacts that are packed into it."""
    packed = _read_packed(jar)
    own = _choose_own(jar, packed)
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    others: list[Json] = [artifact.component() for artifact in packed if artifact != own]
    inner: dict[str, Json] = {"components": others} if others else {}
    return {
        **own.component(),
        "bom-ref": f"{own.purl}#{jar.name}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": [{"name": "deltabook:file", "value": jar.name}],
        **inner,
    }


def _read_packed(jar: Path) -> list[Artifact]:
    """Return the artifacts whose `pom.properties` are in a JAR: the JAR's own artifact, and packed ones."""
    with zipfile.ZipFile(jar) as archive:
        artifacts = []
        for pom in filter(_POM.fullmatch, archive.namelist()):
            lines = archive.read(pom).decode("utf-8", "replace").splitlines()
            values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
            if {"groupId", "artifactId", "version"} <= values.keys():
                artifacts.append(
                    Artifact(
                        values["groupId"].strip(), values["artifactId"].strip(), values["version"].strip()
                    )
                )
        return artifacts


def _choose_own(jar: Path, packed: list[Artifact]) -> Artifact:
    """Return the artifact of a JAR itself, as opposed to the artifacts that are packed into the JAR.

    `packed` has the result of `_read_packed`, in which the JAR's own artifact may be missing.
    """
    parts = _FILE.fullmatch(jar.name)
    if parts is None:
        return Artifact("", jar.stem, "")
    own = [artifact for artifact in packed if f"{artifact.name}-{artifact.version}" in jar.stem]
    if own:
        return max(own, key=lambda artifact: len(artifact.name))
    group = parts["group"] or _GROUPS.get(parts["name"]) or _read_vendor(jar)
    return Artifact(group, parts["name"], parts["version"])


def _read_vendor(jar: Path) -> str:
    """Return the vendor id in a JAR's manifest, to be used as the Maven group; empty if there is no id."""
    with zipfile.ZipFile(jar) as archive:
        if "META-INF/MANIFEST.MF" not in archive.namelist():
            return ""
        manifest = archive.read("META-INF/MANIFEST.MF").decode("utf-8", "replace")
    vendor = re.search(r"^Implementation-Vendor-Id: *(\S+)", manifest, re.MULTILINE)
    return vendor[1] if vendor else ""


def main(arguments: list[str] | None = None) -> int:
    """Write the list of JARs, print vulnerabilities and stale reviews, and return the exit status.

    The exit status is 1 if there is a vulnerability or a stale review, else 0.

    Parameters
    ----------
    arguments : list of str, optional
        Command-line arguments; default: the arguments of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="pip-audit's report as JSON")
    parser.add_argument("jars", type=Path, help="file for the list of JARs")
    given = parser.parse_args(arguments)
    jars = list_jars()
    given.jars.write_text(json.dumps(make_bill_of_materials(jars), indent=1))
    print(f"{len(jars)} JARs in {given.jars}; conf/{REVIEW} reviews the vulnerabilities of some of them")
    stale = find_stale_reviews(jars)
    vulnerabilities, unknown = read_pip_audit(given.report)
    for line in [*stale, *(f"vulnerability: {entry}" for entry in vulnerabilities)]:
        print(line)
    if unknown:
        print(f"not looked up: {unknown[0]}" + (f", and {len(unknown) - 1} more" if unknown[1:] else ""))
    return 1 if vulnerabilities or stale else 0


if __name__ == "__main__":
    sys.exit(main())
