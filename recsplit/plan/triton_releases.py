"""NVIDIA's Triton containers, and what the onnxruntime in each reads.

onnxruntime's version is `ort_version` in build.py of github.com/triton-inference-server/server, branch r<release> (`TRITON_VERSION_MAP`
up to 24.11). The opset and IR version are the newest that the wheel of that version of onnxruntime loads, as tried with one Add.
"""

from dataclasses import dataclass

from recsplit.errors import InputError


@dataclass(frozen=True)
class Release:
    """A container by its name's version, 24.10; the onnxruntime in it; and the newest opset and IR version that this reads."""

    name: str
    onnxruntime: str
    opset: int
    ir_version: int


#: onnxruntime, without its patch number: the newest opset and the newest IR version that it reads.
_READS = {
    "1.17": (20, 9),
    "1.18": (21, 10),
    "1.19": (21, 10),
    "1.20": (21, 10),
    "1.21": (22, 10),
    "1.22": (22, 10),
    "1.23": (23, 11),
    "1.24": (25, 13),
    "1.27": (26, 13),
    "1.28": (26, 13),
}
#: The onnxruntime of each release. Older ones read no opset 20, in which torch sources are written.
_ONNXRUNTIME = {
    "24.03": "1.17.2",
    "24.04": "1.17.3",
    "24.05": "1.18.0",
    "24.06": "1.18.0",
    "24.07": "1.18.1",
    "24.08": "1.19.0",
    "24.09": "1.19.2",
    "24.10": "1.19.2",
    "24.11": "1.19.2",
    "24.12": "1.20.1",
    "25.01": "1.20.1",
    "25.02": "1.20.1",
    "25.03": "1.21.0",
    "25.04": "1.21.0",
    "25.05": "1.22.0",
    "25.06": "1.22.0",
    "25.07": "1.22.0",
    "25.08": "1.23.0",
    "25.09": "1.23.0",
    "25.10": "1.23.1",
    "25.11": "1.23.2",
    "25.12": "1.23.2",
    "26.01": "1.23.2",
    "26.02": "1.24.1",
    "26.03": "1.24.2",
    "26.04": "1.24.4",
    "26.05": "1.24.4",
    "26.06": "1.24.4",
    "26.07": "1.27.0",
    "26.08": "1.28.0",
}
RELEASES = {name: Release(name, version, *_READS[version.rpartition(".")[0]]) for name, version in _ONNXRUNTIME.items()}
#: The release that the pip wheel holds as well (Triton 2.51.0).
DEFAULT = "24.10"
#: NVIDIA's container of it, by the name under which docker and a kubelet pull it.
IMAGE = f"nvcr.io/nvidia/tritonserver:{DEFAULT}-py3"


def release(name: str) -> Release:
    """The release of this name. Raises InputError for one that isn't known."""
    if name not in RELEASES:
        first, *_, last = RELEASES
        raise InputError(f"--triton is {name!r}, which is no known release", hint=f"a release from {first} to {last}, such as {DEFAULT}")
    return RELEASES[name]


def first_that_reads(opset: int) -> Release | None:
    """The oldest release whose onnxruntime reads this opset; None where none does."""
    return next((item for item in RELEASES.values() if item.opset >= opset), None)
