"""Credentials, headers and certificates out of a file; and that nothing shows them."""

import base64
import dataclasses
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from recsplit.credentials import Credentials, read_credentials
from recsplit.errors import InputError
from recsplit_controller.observe.prometheus import PrometheusObserver
from recsplit_controller.observe.scrape import ScrapeObserver
from tests.controller.observe.pages import page

SECRET = "very-secret"


class Guarded(BaseHTTPRequestHandler):
    """A Prometheus without series, and a page of Triton's, for who sends the headers; `asked` keeps what was sent."""

    asked: ClassVar[list[dict[str, str]]] = []
    required: ClassVar[dict[str, str]] = {}
    elsewhere: ClassVar[str] = ""
    answer: ClassVar[bytes] = json.dumps({"data": {"result": []}}).encode()

    def do_GET(self) -> None:
        sent = dict(self.headers.items())
        self.asked.append(sent)
        right = all(self.headers.get(name) == value for name, value in self.required.items())
        body = self.answer if "/api/" in self.path else page({"shop_dense": {}}).encode()
        self.send_response(307 if self.elsewhere else 200 if right else 401)
        if self.elsewhere:
            self.send_header("Location", self.elsewhere)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def guarded(**required: str) -> Iterator[tuple[str, type[Guarded]]]:
    handler = type("Handler", (Guarded,), {"asked": [], "required": {name.replace("_", "-"): value for name, value in required.items()}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def written(folder: Path, text: str) -> Path:
    path = folder / "http.yml"
    path.write_text(text)
    (folder / "token").write_text(f"{SECRET}\n")
    return path


BASIC = f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("basic_auth: {username: me, password_file: token}", {"Authorization": BASIC}),
        (f"basic_auth: {{username: me, password: {SECRET}}}", {"Authorization": BASIC}),
        ("authorization: {credentials_file: token}", {"Authorization": f"Bearer {SECRET}"}),
        ("authorization: {type: Token, credentials_file: token}", {"Authorization": f"Token {SECRET}"}),
        ("http_headers: {X-Scope-OrgID: {values: [shop]}, X-Key: {files: [token]}}", {"X-Scope-OrgID": "shop", "X-Key": SECRET}),
    ],
)
def test_what_the_file_says_is_sent_to_prometheus_and_to_pages(tmp_path: Path, text: str, sent: dict[str, str]) -> None:
    credentials = read_credentials(written(tmp_path, text))
    with guarded(**{name.replace("-", "_"): value for name, value in sent.items()}) as (url, handler):
        by_rules = PrometheusObserver(url, "shop", ["shop_dense"], credentials=credentials)
        assert "no data of" in by_rules.observe(0.0).problems[0], "it was answered"
        by_page = ScrapeObserver([f"{url}/metrics"], "shop", ["shop_dense"], credentials=credentials)
        assert not any("401" in problem for problem in by_page.observe(0.0).problems)
        assert len(handler.asked) == 2
        without = PrometheusObserver(url, "shop", ["shop_dense"]).observe(0.0)
        assert "401" in without.problems[0]


def test_a_token_that_was_replaced_is_sent_at_the_next_question(tmp_path: Path) -> None:
    credentials = read_credentials(written(tmp_path, "authorization: {credentials_file: token}"))
    with guarded(Authorization="Bearer second") as (url, _):
        observer = PrometheusObserver(url, "shop", [], credentials=credentials)
        assert "401" in observer.observe(0.0).problems[0]
        (tmp_path / "token").write_text("second\n")
        assert "no data of" in observer.observe(1.0).problems[0]


@pytest.mark.parametrize("bad", [f"{SECRET}\nX: y", f"{SECRET}\x00", f"{SECRET}\u20ac"])
def test_what_no_header_can_hold_is_said_and_not_shown(tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials = read_credentials(written(tmp_path, "authorization: {credentials_file: token}"))
    (tmp_path / "token").write_text(bad)
    with guarded() as (url, _):
        for observer in (
            PrometheusObserver(url, "shop", [], credentials=credentials),
            ScrapeObserver([f"{url}/metrics"], "shop", [], credentials=credentials),
        ):
            (problem, *_) = observer.observe(0.0).problems
            assert "no single line" in problem and SECRET not in problem
    assert SECRET not in caplog.text


def test_who_is_sent_on_to_somebody_else_takes_no_credentials_along(tmp_path: Path) -> None:
    credentials = read_credentials(written(tmp_path, "authorization: {credentials_file: token}"))
    with guarded() as (first, one), guarded() as (second, other):
        one.elsewhere = f"{second.replace('127.0.0.1', 'localhost')}/api/metrics"
        PrometheusObserver(first, "shop", [], credentials=credentials).observe(0.0)
        ScrapeObserver([f"{first}/metrics"], "shop", [], credentials=credentials).observe(0.0)
        assert all(SECRET in sent["Authorization"] for sent in one.asked) and len(one.asked) == 2
        assert len(other.asked) == 2 and not any("Authorization" in sent for sent in other.asked)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected a mapping"),
        ("a: [", "no YAML"),
        (f"password: {SECRET}", "unknown key 'password'"),
        (f"basic_auth: {{user: {SECRET}}}", "unknown key 'user'"),
        ("basic_auth: {username: 7}", "username is no text"),
        (f"basic_auth: {{username: a}}\nauthorization: {{credentials: {SECRET}}}", "both are the header|has basic_auth and authorization"),
        (f"authorization: {{credentials: {SECRET}, credentials_file: token}}", "credentials and credentials_file"),
        (f"http_headers: {{X-Key: {SECRET}}}", "expected a mapping"),
        (f"http_headers: {{X-Key: {{values: [{SECRET}, b]}}}}", "expected one text"),
        ("http_headers: {'X Y': {values: [a]}}", "no name of a header"),
        ("tls_config: {insecure_skip_verify: maybe}", "true or false"),
        ("authorization: {type: 'a b'}", "type is none"),
    ],
)
def test_a_file_that_is_none_is_said_in_a_sentence_without_what_is_in_it(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_credentials(written(tmp_path, text))
    assert SECRET not in str(error.value) + error.value.hint and error.value.__cause__ is None


def test_nothing_that_is_kept_shows_a_secret(tmp_path: Path) -> None:
    credentials = read_credentials(
        written(tmp_path, f"basic_auth: {{username: me, password: {SECRET}}}\nhttp_headers: {{A: {{secrets: [{SECRET}]}}}}")
    )
    assert SECRET not in repr(credentials)
    assert dataclasses.replace(credentials) == credentials != Credentials()


def test_certificates_that_are_none_are_said(tmp_path: Path) -> None:
    credentials = read_credentials(written(tmp_path, "tls_config: {ca_file: token}"))
    with pytest.raises(InputError, match="certificates can't be used"):
        credentials.tls()
