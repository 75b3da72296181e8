"""What is made of answers that Triton's HTTP gives when it can't do as it is asked."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from recsplit.errors import RecsplitError
from recsplit.serving.endpoint import Endpoint

ERROR = b'{"error":"failed to open directory: Too many open files"}'


class OutOfFiles(http.server.BaseHTTPRequestHandler):
    """What Triton 2.51 answered POST /v2/repository/index with 30 open files allowed."""

    def do_POST(self) -> None:
        self.send_response(500)
        self.end_headers()
        self.wfile.write(ERROR)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OutOfFiles) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Endpoint(f"127.0.0.1:{server.server_address[1]}", "a test's")
        server.shutdown()


def test_models_that_triton_does_not_tell_are_an_error_with_its_reason(endpoint: Endpoint) -> None:
    with pytest.raises(RecsplitError, match="doesn't tell which models it has: failed to open directory: Too many open files"):
        endpoint.states()


def test_a_server_that_does_not_tell_its_models_is_not_drained(endpoint: Endpoint) -> None:
    assert not endpoint.drain(0.2)


def test_a_low_limit_of_open_files_is_raised_where_it_may_be() -> None:
    script = "import resource; from recsplit.serving import open_files; open_files.allow_enough(); print(resource.getrlimit(7)[0])"
    command = f"ulimit -Sn 60; exec {sys.executable} -c '{script}'"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert int(said.stdout) >= 256
