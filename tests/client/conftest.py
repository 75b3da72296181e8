"""One server for every test of the client."""

from collections.abc import Iterator

import pytest

from recsplit.serving import Server, serve
from tests.client import served


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = served.write(tmp_path_factory.mktemp("client") / "models")
    with serve(repository, models=served.NAMES) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(server: Server, protocol: str) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url
