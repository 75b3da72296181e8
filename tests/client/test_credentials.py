"""A server behind TLS that wants headers and a client's certificate: a real Triton's gRPC, and its HTTP behind a proxy."""

import asyncio
import copy
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from recsplit.client import AsyncClient, Client, ServerError
from recsplit.client.answer import Array
from recsplit.credentials import Credentials, Secret, read_credentials
from recsplit.errors import InputError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import Server, serve

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
Kind = Literal["grpc", "http"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and by it server.pem and client.pem for 127.0.0.1, with their keys beside them."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=120)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=a test's CA")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
    return folder


@pytest.fixture(scope="module")
def server(tiny: Path, certificates: Path) -> Iterator[Server]:
    files = {"server-cert": "server.pem", "server-key": "server.key", "root-cert": "ca.pem"}
    tls = [f"--grpc-{option}={certificates / name}" for option, name in files.items()]
    with serve(tiny, extra_args=["--grpc-use-ssl=1", "--grpc-use-ssl-mutual=1", *tls]) as running:
        yield running


@pytest.fixture(scope="module")
def plan(tiny: Path) -> Plan:
    return find(tiny).plan


@pytest.fixture(scope="module")
def proxy(server: Server, certificates: Path) -> Iterator[str]:
    """TLS before Triton's HTTP; a request without the token is answered with 401."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    host, _, port = server.http_url.rpartition(":")
    listening = socket.create_server(("127.0.0.1", 0))

    def carry(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def talk(raw: socket.socket) -> None:
        try:
            with context.wrap_socket(raw, server_side=True) as outer:
                head = outer.recv(65536)
                if b"authorization: bearer very-secret" not in head.lower():
                    outer.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                with socket.create_connection((host, int(port))) as inner:
                    inner.sendall(head)
                    back = threading.Thread(target=carry, args=(inner, outer), daemon=True)
                    back.start()
                    carry(outer, inner)
                    back.join(10)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                raw, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(raw,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


@pytest.fixture(scope="module")
def credentials(certificates: Path) -> Credentials:
    (certificates / "token").write_text("very-secret\n")
    path = certificates / "http.yml"
    path.write_text(
        "authorization: {credentials_file: token}\ntls_config: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key}\n"
    )
    return read_credentials(path)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_queries_are_answered_over_tls(server: Server, proxy: str, plan: Plan, credentials: Credentials, protocol: Kind) -> None:
    url = f"grpcs://{server.grpc_url}" if protocol == "grpc" else proxy
    query = samples.rows(plan, 3, np.random.default_rng(0))
    with Client(url, plan.name, protocol, credentials=credentials) as client:
        answer = client.infer(query)
    again = copy.copy(Client(url, plan.name, protocol, credentials=credentials))  # as a spawned process gets it
    with again:
        np.testing.assert_array_equal(next(iter(again.infer(query).values())), next(iter(answer.values())))

    async def ask() -> Array:
        async with AsyncClient(url, plan.name, protocol, credentials=credentials) as other:
            return next(iter((await other.infer(query)).values()))

    np.testing.assert_array_equal(asyncio.run(ask()), next(iter(answer.values())))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_who_lacks_them_is_refused_and_no_secret_is_told(
    server: Server, proxy: str, plan: Plan, certificates: Path, protocol: Kind
) -> None:
    url = f"grpcs://{server.grpc_url}" if protocol == "grpc" else proxy
    other_ca = Credentials(ca=certificates / "client.pem", token=Secret("very-secret"))
    no_certificate = Credentials(ca=certificates / "ca.pem", token=Secret("very-secret"))
    for lacking in (other_ca, no_certificate, None):
        with pytest.raises(ServerError) as error, Client(url, plan.name, protocol, credentials=lacking, timeout_s=5):
            pass
        assert "very-secret" not in f"{error.value} {error.value.hint}"


def test_addresses_with_a_user_and_grpc_without_a_check_are_refused() -> None:
    with pytest.raises(InputError, match="names a user") as error:
        Client("http://me:very-secret@127.0.0.1:8000", "shop", "http")
    assert "very-secret" not in f"{error.value} {error.value.hint}"
    with pytest.raises(InputError, match="checks the server's certificate"):
        Client("grpcs://127.0.0.1:8001", "shop", credentials=Credentials(verify=False))
