"""A pod's own credentials, as the kubelet mounts them: address, token, certificate authority, and the namespace that it is in.

kr8s reads these too, but never the namespace (0.20.15 compares a default that is "default" with None), and the token with the line
break at its end, which no header may have: the error then holds the whole token.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsplit.disk import bounded
from recsplit.errors import InputError

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HINT = "a pod has them unless its automountServiceAccountToken is false"


def has_kubeconfig() -> bool:
    """Whether kubectl would find a kubeconfig here: then that is taken, as everywhere else."""
    named = os.environ.get("KUBECONFIG", "")
    return any(Path(path).expanduser().is_file() for path in (named.split(":") if named else ["~/.kube/config"]))


def kubeconfig(folder: Path, url: str | None) -> Mapping[str, Any] | None:
    """A kubeconfig of one context out of the files in `folder`; None where this is no pod. `url`: of the API server, None: the pod's own.

    Raises InputError where a file can't be read. To be made anew where a token has run out: the kubelet writes a new one in time.
    """
    if not folder.is_dir():
        return None
    if url is None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise InputError(
                "the API server's address is not in the environment", hint="KUBERNETES_SERVICE_HOST and _PORT, as in every pod"
            )
        url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    cluster = {"server": url}
    if (folder / "ca.crt").is_file():
        cluster["certificate-authority"] = str(folder / "ca.crt")
    context = {"cluster": "pod", "user": "pod", "namespace": _line(folder / "namespace")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "pod", "cluster": cluster}],
        "users": [{"name": "pod", "user": {"token": _line(folder / "token")}}],
        "contexts": [{"name": "pod", "context": context}],
        "current-context": "pod",
    }


def _line(path: Path) -> str:
    """The one line of a file. Raises InputError, which doesn't hold it, where it is none."""
    text = bounded.read_text(path, bounded.SETTINGS_BYTES, hint=_HINT).strip()
    if not text or not text.isprintable():
        raise InputError(f"{path} holds no single line of text", hint=_HINT)
    return text
