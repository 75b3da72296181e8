"""A real Prometheus on this machine, for tests of the queries that autoscalers ask."""

import contextlib
import json
import math
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).parents[2] / ".tools" / "bin"
BINARY = shutil.which("prometheus", path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, text: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that the query gives now."""
        return [(item["metric"], float(item["value"][1])) for item in self.get("query", query=text)["result"]]

    def number(self, text: str) -> float:
        """The value of the only series that the query gives."""
        series = self.query(text)
        assert len(series) == 1 and math.isfinite(series[0][1]), (text, series)
        return series[0][1]


@contextlib.contextmanager
def running(folder: Path, targets: Mapping[str, Mapping[str, str]]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes host:port addresses once a second, with labels for each; it waits until all were scraped."""
    assert BINARY is not None
    static = [{"targets": [address], "labels": dict(labels)} for address, labels in targets.items()]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [{"job_name": "triton", "static_configs": static}]}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([BINARY, *arguments], stdout=log, stderr=log)
    try:
        prometheus = Prometheus(f"http://{address}")
        deadline = time.monotonic() + 60
        while not _scraped(prometheus, len(targets)):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)


def _scraped(prometheus: Prometheus, targets: int) -> bool:
    try:
        urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=10).close()  # 503 before it reads its own data
        return prometheus.query("sum(up)") == [({}, targets)]
    except OSError:
        return False
