"""Instances whose process died: found within seconds, and replaced.

Triton 2.51 neither notices nor replaces one: the server stays ready, counts the instance on, and fails every request that meets it
(decision 0011). The process of an instance is ours to see, so it isn't left to failing requests.
"""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recsplit.configs import override
from recsplit.configs.check import versions
from recsplit.engine.compilation import BACKEND
from recsplit.errors import RecsplitError
from recsplit.plan.files import CONFIG_FILE, ENGINE_BACKEND
from recsplit.repository.find import text_of
from recsplit.serving.server import Server
from recsplit.serving.switching.alone import alone
from recsplit.serving.switching.model_control import ModelControl

_STUB = "triton_python_backend_stub"
#: So many looks in a row must miss a process: a change that is under way may be seen half done.
_LOOKS = 2
#: Replacing instances that failed so often in a row is given up.
_MOST_FAILURES = 3
_LOAD_S = 120.0
#: A change that is under way may itself replace the instance.
_WAIT_S = 60.0

#: A model and its version.
Served = tuple[str, int]


@dataclass
class Watch:
    """The instances of one server: `folder` is the name of its private folder, `repository` what it serves; `tell` shows a sentence."""

    folder: str
    repository: Path
    grpc_url: str
    key: str | None
    tell: Callable[[str], None]
    engine: bool
    _seen: Mapping[Served, frozenset[int]] | None = None
    _missing: dict[Served, int] = field(default_factory=dict)
    _failures: dict[Served, int] = field(default_factory=dict)

    @classmethod
    def over(cls, server: Server, repository: Path, tell: Callable[[str], None]) -> "Watch":
        """The watch over a server that is ready."""
        engine = (server.running.folder / "backends" / ENGINE_BACKEND / BACKEND).is_file()
        return cls(server.running.folder.name, repository, server.grpc_url, server.control_key, tell, engine)

    def look(self) -> None:
        """Replace the instances of a model that has fewer processes than the server counts instances, where any process came or went.

        Raises RecsplitError where that failed three times in a row: the server can't serve that model.
        """
        present = processes(self.folder)
        if present == self._seen and not self._missing:
            return
        self._seen = present
        lacking = self._lacking(present)
        if lacking is None:
            self._seen = None
            return
        self._missing = {served: self._missing.get(served, 0) + 1 for served in lacking}
        for served in [served for served, looks in self._missing.items() if looks >= _LOOKS]:
            self._replace(*served)

    def _lacking(self, present: Mapping[Served, frozenset[int]]) -> list[Served] | None:
        """The models, with versions, that have fewer processes than instances; None where the server doesn't say."""
        try:
            with ModelControl(self.grpc_url, self.key) as control:
                return [served for served in control.ready() if self._lacks(control, served, present)]
        except RecsplitError:
            return None

    def _replace(self, model: str, version: int) -> None:
        """New instances for a model. Raises RecsplitError where that has failed too often."""
        begun = time.monotonic()
        try:
            with alone(self.grpc_url, model, _WAIT_S), ModelControl(self.grpc_url, self.key) as control:
                if not self._lacks(control, (model, version), processes(self.folder)):
                    return  # a change was under way, which has ended
                self.tell(f"An instance of {model!r} has died; its instances are replaced.")
                served = control.beyond(model, version)
                healed = dataclasses.replace(served, policy=override.next_policy(served.policy))
                control.end(control.load(model, override.override(self._rendered(model, version), healed), _LOAD_S))
        except (RecsplitError, OSError) as error:
            self._failures[model, version] = self._failures.get((model, version), 0) + 1
            self.tell(f"The instances of {model!r} could not be replaced: {error}")
            if self._failures[model, version] >= _MOST_FAILURES:
                raise RecsplitError(
                    f"an instance of {model!r} has died, and could not be replaced {_MOST_FAILURES} times: {error}",
                    hint="see the server's log",
                ) from error
            return
        self._failures.pop((model, version), None)
        self._missing.pop((model, version), None)
        self.tell(f"The instances of {model!r} were replaced in {time.monotonic() - begun:.1f} s.")

    def _lacks(self, control: ModelControl, served: Served, present: Mapping[Served, frozenset[int]]) -> bool:
        """Whether there are fewer processes of a model than instances. Raises RecsplitError where the server doesn't say.

        An ensemble has no instances, and the engine's are threads of the server; those of every other model here are processes
        (triton.prepare_backends).
        """
        config = control.config(*served)
        if config.platform == "ensemble" or (self.engine and config.backend == ENGINE_BACKEND):
            return False
        return len(present.get(served, ())) < override.count(config)

    def _rendered(self, model: str, version: int) -> object:
        """The config that the server has of this version: the model's, which somebody may have edited, where it is of this version; else
        the one of its build that recsplit kept."""
        path, kept = (folder / CONFIG_FILE for folder in (self.repository / model, self.repository / model / str(version)))
        config = override.read(text_of(path), str(path))
        if version in versions(config) or not kept.is_file():
            return config
        return override.read(text_of(kept), str(kept))


def processes(folder: str) -> dict[Served, frozenset[int]]:
    """Ids of the processes that run instances of the server with this private folder, by model and version."""
    by_served: dict[Served, set[int]] = defaultdict(set)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if Path(arguments[0]).name == _STUB and folder in arguments[0] and len(arguments) > 1:
            version = Path(arguments[1]).parent  # .../<model>/<version>/model.onnx
            if version.name.isdecimal():
                by_served[version.parent.name, int(version.name)].add(int(entry.parent.name))
    return {served: frozenset(pids) for served, pids in by_served.items()}
