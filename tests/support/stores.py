"""An object store on loopback: s3proxy, which stores objects as files in a folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
import pyspark
from obstore.exceptions import BaseError
from obstore.store import S3Store
from servers import end, free_port, until

PROXY = "4.1.0"
BUCKET = "captures"
SECRET = "a-secret-of-the-store"
_JARS = Path(pyspark.__file__).parent / "jars"


@dataclass(frozen=True)
class Store:
    """A running store: the variables that name it, the folder of its bucket, and its process."""

    variables: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes]

    def place(self, name: str) -> str:
        return f"s3a://{BUCKET}/{name}"


def _proxy() -> Path:
    """Fetch the program, by the Ivy that Spark brings; 57 MB, once."""
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deltabook" / f"s3proxy-{PROXY}"
    )
    if not (cache / "complete").exists():
        ivy = next(_JARS.glob("ivy-*.jar"))
        asked = ["-cache", cache / "ivy", "-dependency", "org.gaul", "s3proxy", PROXY, "-confs", "default"]
        into = f"{cache}/jars/[artifact]-[revision](-[classifier]).[ext]"
        command = [
            "java",
            "-cp",
            ivy,
            "org.apache.ivy.Main",
            *asked,
            "-types",
            "jar",
            "bundle",
            "-retrieve",
            into,
        ]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        (cache / "complete").touch()
    return cache / "jars"


@contextmanager
def started(folder: Path) -> Iterator[Store]:
    """Start a store with one empty bucket."""
    bucket, port = folder / "objects" / BUCKET, free_port()
    bucket.mkdir(parents=True)
    settings = {
        "s3proxy.endpoint": f"http://127.0.0.1:{port}",
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": "deltabook",
        "s3proxy.credential": SECRET,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.identity": "none",
        "jclouds.credential": "none",
        "jclouds.filesystem.basedir": str(bucket.parent),
    }
    named = folder / "s3proxy.properties"
    named.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    variables = {
        "AWS_ENDPOINT_URL": settings["s3proxy.endpoint"],
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "deltabook",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    command = [
        "java",
        "-Xmx512m",
        "-cp",
        f"{_proxy()}/*",
        "org.gaul.s3proxy.Main",
        "--properties",
        str(named),
    ]
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        until(lambda: _answers(variables), process)
        yield Store(variables, bucket, process)
    finally:
        end(process)


def _answers(variables: dict[str, str]) -> bool:
    config = {name.lower(): value for name, value in variables.items()}
    try:
        obstore.list_with_delimiter(S3Store(BUCKET, config=config, retry_config={"max_retries": 0}))
    except BaseError:
        return False
    return True
