"""Files that no reader may choke on: without an end, without a writer, too large, nested, bombs, and none of the reader's business."""

import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

Make = Callable[[Path], object]

#: What must be in no message.
SECRET = "root:$6$S3CRET:19000:0:99999:7:::"
_ZEROS = 10_000_000


def _holding(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


def _sparse(size_bytes: int) -> Make:
    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, size_bytes)

    return make


#: Of any file.
ANY: dict[str, Make] = {
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a pipe that nobody writes to": os.mkfifo,
    "a folder": Path.mkdir,
    "secrets": _holding(f"{SECRET}\n".encode()),
    "a line of 1 GB": _sparse(10**9),
    "10 GB": _sparse(10**10),
    "nothing": _holding(b""),
    "NUL": _holding(b"\0" * 100),
    "no UTF-8": _holding(b"\xff\xfe\x80\n"),
}

#: Of texts.
TEXTS: dict[str, Make] = ANY | {
    "brackets": _holding(b"[" * 100_000),
    "braces": _holding(b'{"schema":' * 100_000),
    "brackets in TOML": _holding(b"a = " + b"[" * 100_000),
    "brackets in YAML": _holding(b"a: " + b"[" * 100_000),
    "10**5000": _holding(b"1" + b"0" * 5000),
    "10**5000 in JSON": _holding(b'{"schema": 1' + b"0" * 5000 + b"}\n"),
    "10**5000 in TOML": _holding(b"seed = 1" + b"0" * 5000),
    "16**9000 in TOML": _holding(b"seed = 0x" + b"f" * 9000),
    "1e400 in JSON": _holding(b'{"schema": 1e400}\n'),
    "1e400 in TOML": _holding(b"seed = 1e400\n"),
    "secrets in JSON": _holding(json.dumps({"schema": [SECRET] * 1000}).encode() + b"\n"),
}


def gz(path: Path) -> None:
    """A .gz of 10 GB of one line, in 10 MB."""
    block = _repeated(b"1" * _ZEROS)
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * 1000)


def header(shape: str, dtype: str = "<i8") -> bytes:
    """How a .npy with this shape begins."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def zipped(members: Mapping[str, tuple[bytes, int]], *, zeros: int = 10**10, packing: int = 8) -> Make:
    """A zip of members of which each begins with these bytes and says that it has so many; each unpacks to `zeros` more, in 10 MB."""

    def make(path: Path) -> None:
        local, directory = b"", b""
        block = _repeated(b"\0" * _ZEROS) * (zeros // _ZEROS)
        for name, (begun, size) in members.items():
            body = (_repeated(begun) + block) if packing == 8 else begun
            sizes = struct.pack("<HHHIIIHH", packing, 0, 33, 0, len(body), size, len(name), 0)
            directory += b"PK\1\2" + struct.pack("<HHH", 20, 20, 0) + sizes + struct.pack("<HHHII", 0, 0, 0, 0, len(local)) + name.encode()
            local += b"PK\3\4" + struct.pack("<HH", 20, 0) + sizes + name.encode() + body
        end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(local), 0)
        path.write_bytes(local + directory + end)

    return make


def many_members(path: Path) -> None:
    """A zip whose directory alone takes a GB once it is read."""
    entry = b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 500_000
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(entry) * count, 0, 0)
    path.write_bytes(entry * count + end)


def _repeated(data: bytes) -> bytes:
    """`data` deflated so that what follows may be put behind it, or the same again."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return deflater.compress(data) + deflater.flush(zlib.Z_FULL_FLUSH)


#: Of zips with arrays; members are named when they are known.
def archives(*names: str, dtype: str = "<i8") -> dict[str, Make]:
    """Of an .npz whose members have these names, in the order in which they are read."""
    small = header("(100,)", dtype)
    rest = {name: (small, len(small) + 800) for name in names[1:]}
    first = names[0]
    return ANY | {
        "a bomb that says so": zipped({first: (header("(500_000_000,)", dtype), 4 * 10**9)} | rest),
        "a bomb that says 10 kB": zipped({first: (header("(1000,)", dtype), 10_000)} | rest),
        "a bomb that promises the size": zipped({first: (header("(500_000_000,)", dtype), 10_000)} | rest),
        "a header without an end": zipped({first: (b"\x93NUMPY\2\0" + struct.pack("<I", 4 * 10**9), 4 * 10**9)} | rest),
        "a header of secrets": zipped({first: (b"\x93NUMPY\1\0" + struct.pack("<H", len(SECRET)) + SECRET.encode(), 1000)} | rest),
        "a shape of 8 TB": zipped({first: (header("(10**12,)".replace("10**12", "1000000000000"), dtype), 1000)} | rest),
        "a shape below zero": zipped({first: (header("(2, -1)", dtype), 10_000)} | rest),
        "a packing without bounds": zipped({first: (header("(1000,)", dtype), 10_000)} | rest, packing=14),
        "half a million members": many_members,
    }
