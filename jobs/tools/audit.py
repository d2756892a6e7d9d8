"""The step of `make audit` that lists the JARs of Spark and Delta, and tells published faults of packages."""

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
from typing import Any

from deltabook.jobs.runtime.session import delta_jars
from deltabook.jobs.runtime.settings import load_settings

REVIEW = "jars.md"
"""In `conf`: the review of published faults, a table row for each JAR, its version behind its name."""
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
"""Maven's groups of JARs that do not name theirs."""


@dataclass(frozen=True)
class Artifact:
    """The Maven artifact that a JAR holds, or one that was packed into the JAR.

    Attributes
    ----------
    group, name, version : str
        Maven's coordinates; the group is empty where nothing names it.
    """

    group: str
    name: str
    version: str

    @property
    def purl(self) -> str:
        """Its package URL."""
        if not self.group:
            return f"pkg:generic/{self.name}@{self.version}"
        return f"pkg:maven/{self.group}/{self.name}@{self.version}"

    def component(self) -> dict[str, Any]:
        """Return it as a component of a CycloneDX list."""
        named = {"group": self.group} if self.group else {}
        return {"type": "library", **named, "name": self.name, "version": self.version, "purl": self.purl}


def shipped_jars() -> list[Path]:
    """List the JARs that a session has: PySpark's own, and Delta's, once they are fetched."""
    spec = find_spec("pyspark")
    assert spec is not None and spec.origin is not None  # PySpark is a dependency
    own = sorted((Path(spec.origin).parent / "jars").glob("*.jar"))
    return own + delta_jars(load_settings(None, {}))


def list_of_jars(jars: Iterable[Path]) -> dict[str, Any]:
    """Make a CycloneDX list of JARs.

    Parameters
    ----------
    jars : iterable of Path
        Their files.

    Returns
    -------
    dict
        A document of CycloneDX 1.6: a component a JAR, with its SHA-256 and what was packed into it.
    """
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [_component(jar) for jar in jars],
    }


def reviewed() -> dict[str, str]:
    """Return the versions of the JARs whose published faults `conf/jars.md` reviews, by name."""
    return dict(_REVIEWED.findall(files("deltabook.conf").joinpath(REVIEW).read_text(encoding="utf-8")))


def unreviewed(jars: Iterable[Path]) -> list[str]:
    """Name what was reviewed in another version than the one that is there, or is not there any more."""
    there: dict[str, set[str]] = {}
    for jar in jars:
        own = own_artifact(jar)
        there.setdefault(own.name, set()).add(own.version)
    return [
        f"{name} {version} is reviewed in {REVIEW}, found {', '.join(sorted(there.get(name, ()))) or 'none'}"
        for name, version in reviewed().items()
        if there.get(name) != {version}
    ]


def faults_told(found: Path) -> tuple[list[str], list[str]]:
    """Read what pip-audit has found.

    Parameters
    ----------
    found : Path
        Its report, as JSON; it writes none where the list of published faults cannot be reached.

    Returns
    -------
    (faults, unknown) : (list of str, list of str)
        Each published fault of a package, and each package of which nothing could be looked up.
    """
    if not found.is_file():
        return [], ["all packages: the list of published faults was not reachable"]
    packages = json.loads(found.read_text())["dependencies"]
    faults = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in {fault['fix_versions']}"
        for package in packages
        for fault in package.get("vulns", ())
    ]
    return faults, [f"{one['name']}: {one['skip_reason']}" for one in packages if "skip_reason" in one]


def own_artifact(jar: Path) -> Artifact:
    """Return what a JAR is: by its own `pom.properties`, else by its name and manifest."""
    return _own(jar, _packed(jar))


def _component(jar: Path) -> dict[str, Any]:
    packed = _packed(jar)
    own = _own(jar, packed)
    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
    others = [artifact.component() for artifact in packed if artifact != own]
    inner = {"components": others} if others else {}
    return {
        **own.component(),
        "bom-ref": f"{own.purl}#{jar.name}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": [{"name": "deltabook:file", "value": jar.name}],
        **inner,
    }


def _packed(jar: Path) -> list[Artifact]:
    """List the artifacts whose `pom.properties` a JAR holds: its own, and those packed into it."""
    with zipfile.ZipFile(jar) as archive:
        found = []
        for pom in filter(_POM.fullmatch, archive.namelist()):
            lines = archive.read(pom).decode("utf-8", "replace").splitlines()
            told = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
            if {"groupId", "artifactId", "version"} <= told.keys():
                found.append(
                    Artifact(told["groupId"].strip(), told["artifactId"].strip(), told["version"].strip())
                )
        return found


def _own(jar: Path, packed: list[Artifact]) -> Artifact:
    parts = _FILE.fullmatch(jar.name)
    if parts is None:
        return Artifact("", jar.stem, "")
    own = [artifact for artifact in packed if f"{artifact.name}-{artifact.version}" in jar.stem]
    if own:
        return max(own, key=lambda artifact: len(artifact.name))
    group = parts["group"] or _GROUPS.get(parts["name"]) or _vendor(jar)
    return Artifact(group, parts["name"], parts["version"])


def _vendor(jar: Path) -> str:
    """Return the vendor's id of a JAR's manifest, which is its group as far as there is one."""
    with zipfile.ZipFile(jar) as archive:
        if "META-INF/MANIFEST.MF" not in archive.namelist():
            return ""
        manifest = archive.read("META-INF/MANIFEST.MF").decode("utf-8", "replace")
    found = re.search(r"^Implementation-Vendor-Id: *(\S+)", manifest, re.MULTILINE)
    return found[1] if found else ""


def main(arguments: list[str] | None = None) -> int:
    """Write the list of JARs, and tell what is known; return 1 if a package has a published fault.

    Parameters
    ----------
    arguments : list of str, optional
        Of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", type=Path, help="pip-audit's report, as JSON")
    parser.add_argument("jars", type=Path, help="where the list of JARs is written")
    given = parser.parse_args(arguments)
    jars = shipped_jars()
    given.jars.write_text(json.dumps(list_of_jars(jars), indent=1))
    print(f"{len(jars)} JARs in {given.jars}; published faults of some are reviewed in conf/{REVIEW}")
    stale = unreviewed(jars)
    faults, unknown = faults_told(given.faults)
    for line in [*stale, *(f"published fault: {fault}" for fault in faults)]:
        print(line)
    if unknown:
        print(f"not looked up: {unknown[0]}" + (f", and {len(unknown) - 1} more" if unknown[1:] else ""))
    return 1 if faults or stale else 0


if __name__ == "__main__":
    sys.exit(main())
