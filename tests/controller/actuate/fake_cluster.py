"""A stand-in for Kubernetes' API server, since none runs where these tests run.

It keeps objects by path, answers GET, POST and PATCH (merge patches) as the real one does where the controller cares: scale
sub-resources, resource versions and their conflicts, tokens, statuses with messages. It knows no RBAC: `forbidden` paths are refused.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PREFIX = "/namespaces/shop/"


class FakeCluster:
    """`objects` by "version/path"; `asked`: methods and paths, in order. Everything may be changed while it runs."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.forbidden: set[str] = set()
        self.managers: set[str] = set()  # who said to be the owner of what was patched
        self.token = "first"
        self.minor = 35
        self.delay = threading.Event()  # set: nothing is answered until it is cleared again
        self.released = threading.Event()
        self.lock = threading.Lock()
        self._count = 0
        self.url = ""

    def deployment(self, name: str, replicas: int, running: int | None = None) -> None:
        ready = replicas if running is None else running
        status = {"replicas": replicas} | ({"readyReplicas": ready} if ready else {})
        self.put(
            f"apps/v1/deployments/{name}",
            {"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas}, "status": status},
        )

    def autoscaler(self, name: str, deployment: str, least: int, most: int, *, owner: str | None = None) -> None:
        metadata: dict[str, Any] = {"name": name}
        if owner is not None:
            metadata["ownerReferences"] = [{"kind": "ScaledObject", "name": owner}]
        spec = {"scaleTargetRef": {"kind": "Deployment", "name": deployment}, "minReplicas": least, "maxReplicas": most}
        self.put(f"autoscaling/v2/horizontalpodautoscalers/{name}", {"metadata": metadata, "spec": spec})

    def put(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        item["metadata"] = {**item.get("metadata", {}), "resourceVersion": str(self._count)}
        self.objects[path] = item
        return item

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        if path in self.forbidden:
            return 403, {"kind": "Status", "message": f"not allowed: {path}"}
        path = path.removesuffix("/scale")  # of a Deployment: the same spec.replicas
        item = self.objects.get(path)
        if method == "GET" and path.endswith(("/horizontalpodautoscalers", "/deployments")):
            return 200, {"items": [value for key, value in self.objects.items() if key.startswith(f"{path}/")]}
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            return (409, {"message": "already exists"}) if path in self.objects else (201, self.put(path, body))
        if item is None:
            return 404, {"message": f"{path} not found"}
        if method == "PATCH":
            if body.get("metadata", {}).get("resourceVersion") not in (None, item["metadata"]["resourceVersion"]):
                return 409, {"message": "the object has been modified"}
            return 200, self.put(path, merged(item, body))
        return 200, item


def merged(item: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386, as far as it is needed: nothing is removed."""
    both = {key: merged(item[key], value) if isinstance(value, dict) and key in item else value for key, value in patch.items()}
    return {**item, **both}


def handler(cluster: FakeCluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            if cluster.delay.is_set():
                cluster.released.wait()
            if self.path.rstrip("/") == "/version":
                status, answer = 200, {"major": "1", "minor": str(cluster.minor), "gitVersion": f"v1.{cluster.minor}.0"}
            elif self.headers.get("Authorization") != f"Bearer {cluster.token}":
                status, answer = 401, {"message": "Unauthorized"}
            elif self.command == "PATCH" and self.headers["Content-Type"] != "application/merge-patch+json":
                status, answer = 415, {"message": "not a merge patch"}
            else:
                path, _, parameters = self.path.partition("?")
                version, _, rest = path.removeprefix("/apis/").partition(PREFIX)
                with cluster.lock:
                    if self.command == "PATCH":
                        cluster.managers.add(parameters)
                    cluster.asked.append((self.command, f"{version}/{rest}"))
                    status, answer = cluster.answer(self.command, f"{version}/{rest}", body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@contextmanager
def running() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(cluster))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield cluster
    finally:
        cluster.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(cluster: FakeCluster, path: Path, token: str = "first") -> Path:
    """A kubeconfig with this token, as kubectl would read it."""
    named = {"clusters": {"cluster": {"server": cluster.url}}, "users": {"user": {"token": token}}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "shop"}}
    config = {key: [{"name": "c", **value}] for key, value in named.items()}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config, "contexts": [context], "current-context": "c"}))
    return path
