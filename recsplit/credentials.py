"""How a Triton, a Prometheus or a metrics page wants to be asked: credentials, headers and certificates, out of a file.

The file is Prometheus' own `http_config`, as promtool's --http.config.file and its scrape configurations have it:

    basic_auth: {username: recsplit, password_file: password}
    authorization: {credentials_file: token}           # type: Bearer
    http_headers: {X-Scope-OrgID: {values: [shop]}}    # values, secrets, files
    tls_config: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key}

Files that it names are beside it unless their paths are absolute, and are read anew for each question, so that a token may be replaced.
"""

import base64
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.strict_json import shown

_AGAIN = "an http_config as Prometheus has it: basic_auth, authorization, http_headers, tls_config; docs/clients.md shows one"
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "basic_auth": ("username", "username_file", "password", "password_file"),
    "authorization": ("type", "credentials", "credentials_file"),
    "tls_config": ("ca_file", "cert_file", "key_file", "insecure_skip_verify"),
}


@dataclass(frozen=True)
class Secret:
    """A text, or the file that holds it. Nothing shows the text."""

    text: str | None = field(default=None, repr=False)
    file: Path | None = None

    def read(self) -> str:
        """The text, without space around it. Raises InputError, which doesn't hold it, for what no header can hold."""
        text = self.text or ""
        if self.file is not None:
            text = bounded.read_text(self.file, bounded.SETTINGS_BYTES, hint=_AGAIN)
        text = text.strip()
        if not text.isprintable() or not text.isascii():
            raise InputError(
                f"{'a value of the file of credentials' if self.file is None else self.file} is no single line of ASCII", hint=_AGAIN
            )
        return text


@dataclass(frozen=True)
class Credentials:
    """What is sent with each question. `scheme` and `token`: of the header Authorization; `user` and `password`: of basic
    authentication."""

    user: Secret | None = None
    password: Secret | None = None
    scheme: str = "Bearer"
    token: Secret | None = None
    headers: Mapping[str, Secret] = field(default_factory=dict)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True

    def read(self) -> dict[str, str]:
        """The headers of a question. Raises InputError where a file isn't to be had, and never holds what is in it."""
        headers = {name: secret.read() for name, secret in self.headers.items()}
        if self.token is not None:
            headers["Authorization"] = f"{self.scheme} {self.token.read()}"
        elif self.user is not None:
            both = f"{self.user.read()}:{'' if self.password is None else self.password.read()}"
            headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
        return headers

    def tls(self) -> ssl.SSLContext:
        """A context for TLS. Raises InputError where a certificate can't be read."""
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if not self.verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"the certificates can't be used: {error}", hint=_AGAIN) from error
        return context


def read_credentials(path: Path) -> Credentials:
    """Read such a file. Raises InputError, which holds no value of it, where it can't be used."""
    text = bounded.read_text(path, bounded.SETTINGS_BYTES, hint=_AGAIN)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:  # its message shows lines of the file
        raise InputError(f"{path} is no YAML", hint=_AGAIN) from None
    tables = _tables(value, path)
    headers = {
        name: _header(name, table, path) for name, table in _mapping(tables.pop("http_headers", {}), f"{path}: http_headers").items()
    }
    basic, token, tls = (tables.get(name, {}) for name in _KEYS)
    if basic and token:
        raise InputError(f"{path} has basic_auth and authorization", hint="one of them: both are the header Authorization")
    scheme = _text(token, "type", f"{path}: authorization") or "Bearer"
    if not _HEADER.fullmatch(scheme):
        raise InputError(f"{path}: authorization: type is none", hint=_AGAIN)
    verify = tls.get("insecure_skip_verify", False)
    if not isinstance(verify, bool):
        raise InputError(f"{path}: tls_config: insecure_skip_verify is true or false", hint=_AGAIN)
    files = {name: _beside(tls, name, path) for name in ("ca_file", "cert_file", "key_file")}
    return Credentials(
        user=_secret(basic, "username", path),
        password=_secret(basic, "password", path),
        scheme=scheme,
        token=_secret(token, "credentials", path),
        headers=headers,
        ca=files["ca_file"],
        certificate=files["cert_file"],
        key=files["key_file"],
        verify=not verify,
    )


def check_without_user(url: str, option: str, instead: str) -> None:
    """Raises InputError, which doesn't hold the address, where a user or a password stands in it: everyone on the machine could read
    those of a command line. `instead`: where they are given."""
    if "@" in urlsplit(url).netloc:
        raise InputError(f"the address that {option} has names a user", hint=f"give the address alone, and the rest in {instead}")


def _tables(value: object, path: Path) -> dict[str, Any]:
    tables = _mapping(value, str(path))
    for name, table in tables.items():
        if name == "http_headers":
            continue
        if name not in _KEYS:
            raise InputError(f"{path}: unknown key {shown(name)}", hint=_AGAIN)
        for key in _mapping(table, f"{path}: {name}"):
            if key not in _KEYS[name]:
                raise InputError(f"{path}: {name}: unknown key {shown(key)}", hint=_AGAIN)
    return dict(tables)


def _header(name: object, table: object, path: Path) -> Secret:
    """One header: its one value, secret or file."""
    where = f"{path}: http_headers"
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise InputError(f"{where}: {shown(name)} is no name of a header", hint=_AGAIN)
    values = [(key, value) for key, listed in _mapping(table, where).items() for value in (listed if isinstance(listed, list) else [None])]
    if len(values) != 1 or values[0][0] not in ("values", "secrets", "files") or not isinstance(values[0][1], str):
        raise InputError(f"{where}: {name}: expected one text, in a list of values, secrets or files", hint=_AGAIN)
    key, value = values[0]
    return Secret(file=path.parent / str(value)) if key == "files" else Secret(value)


def _secret(table: Mapping[str, Any], key: str, path: Path) -> Secret | None:
    text, file = _text(table, key, str(path)), _beside(table, f"{key}_file", path)
    if text is not None and file is not None:
        raise InputError(f"{path} has {key} and {key}_file", hint="one of them")
    return None if text is None and file is None else Secret(text, file)


def _beside(table: Mapping[str, Any], key: str, path: Path) -> Path | None:
    name = _text(table, key, str(path))
    return None if name is None else path.parent / name


def _text(table: Mapping[str, Any], key: str, where: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: {key} is no text", hint=_AGAIN)
    return value


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where}: expected a mapping", hint=_AGAIN)
    return value
