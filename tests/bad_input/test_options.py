"""Options of `recsplit build` that can't be: each is named with what it takes instead, and nothing is changed."""

from pathlib import Path

import pytest

from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind, nothing
from tests.bad_input.models.models import Make

MANY = 10**12
OURS = Path(__file__).parents[2] / "templates" / "triton"


def option(text: str, error: str, hint: str, *, code: int = 2) -> Kind:
    """The kind of one bad option; the rest of the command line is good."""
    return Kind(text, f"build shop.onnx -o models --name shop {text}", error, hint, code)


def templates(name: str, error: str, hint: str, make: Make) -> Kind:
    """The kind of bad templates; `make` makes what lies at the path that it is given."""
    return Kind(name, "build shop.onnx -o models --name shop --templates mine", error, hint, 2, lambda folder: make(folder / "mine"))


def one(name: str, text: str) -> Make:
    """A folder with this template."""

    def make(path: Path) -> None:
        path.mkdir()
        (path / name).write_text(text)

    return make


def latin(path: Path) -> None:
    path.mkdir()
    (path / "dense.pbtxt.j2").write_text("# größer\n", encoding="latin-1")


def ours(name: str, old: str, new: str) -> Make:
    """A folder with our template, in which one thing is changed."""
    text = (OURS / name).read_text()
    assert old in text
    return one(name, text.replace(old, new))


OPTIONS = [
    option("--unknown-ids ignore", "--unknown-ids 'ignore' is not a policy", "error, zero, or row=N"),
    option("--unknown-ids row=", "--unknown-ids 'row=' is not a policy", "error, zero, or row=N"),
    option("--unknown-ids row=-1", "--unknown-ids 'row=-1' is not a policy", "error, zero, or row=N"),
    option("--unknown-ids row=70", "--unknown-ids row=70: table 'tag_rows' has 40 rows", "a row below 40, or zero"),
    option("--max-batch-size 0", "--max-batch-size is 0", "from 1 to 1048576"),
    option("--max-batch-size -5", "--max-batch-size is -5", "from 1 to 1048576"),
    option("--max-batch-size many", "invalid value for '--max-batch-size': 'many' is not a valid integer", "recsplit build --help"),
    option(f"--max-batch-size {MANY}", f"--max-batch-size is {MANY}", "from 1 to 1048576"),
    option("--embedding-instances 0", "--embedding-instances is 0", "from 1 to 4096"),
    option("--dense-instances -1", "--dense-instances is -1", "from 1 to 4096"),
    option(f"--dense-instances {MANY}", f"--dense-instances is {MANY}", "from 1 to 4096"),
    option("--threads 0", "--threads is 0", "from 1 to 4096"),
    option(f"--threads {MANY}", f"--threads is {MANY}", "from 1 to 4096"),
    option("--queue-delay-us -1", "--queue-delay-us is -1", "from 0 to 3600000000"),
    option("--queue-timeout-ms -1", "--queue-timeout-ms is -1", "from 0 to 3600000"),
    option(f"--queue-delay-us {10**30}", f"--queue-delay-us is {10**30}", "from 0 to 3600000000"),
    option("--tolerance -1", "--tolerance is -1", "1e-5 is usual"),
    option("--tolerance nan", "--tolerance is nan", "from 0 to below 1"),
    option("--tolerance tight", "'tight' is not a valid float", "recsplit build --help"),
    option("--dense-runtime tensorflow", "'tensorflow' is not one of 'onnxruntime', 'onnxruntime-tensorrt', 'tensorrt'", "--help"),
    option("--dense-runtime tensorrt", "the dense runtime 'tensorrt' needs a GPU", "--dense-kind gpu"),
    option("--dense-runtime onnxruntime-tensorrt", "the dense runtime 'onnxruntime-tensorrt' needs a GPU", "--dense-kind gpu"),
    option("--dense-kind tpu", "'tpu' is not one of 'cpu', 'gpu'", "recsplit build --help"),
    option("--ids float", "'float' is not one of 'same', 'int32'", "recsplit build --help"),
    option("--bags loose", "'loose' is not one of 'auto', 'padded', 'chunked'", "recsplit build --help"),
    option("--max-batchsize 8", "no such option '--max-batchsize'", "did you mean --max-batch-size?"),
    option("--name", "option '--name' requires an argument", "--help"),
    option("more.onnx", "got unexpected extra argument (more.onnx)", "recsplit build --help"),
    option("--name a/b", "'a/b' can't name a model", "letters, digits"),
    option("--name ../shop", "'../shop' can't name a model", "letters, digits"),
    option("--name 'my shop'", "'my shop' can't name a model", "letters, digits"),
    option(f"--name {'x' * 101}", "can't name a model", "letters, digits"),
    Kind("no source", "build -o models", "missing argument 'SOURCE'", "recsplit build --help"),
    Kind("an empty source", "build '' -o models", "'' is not a model", "a model is x.onnx"),
]

TEMPLATES = [
    templates("templates missing", "there is no folder mine", "recsplit/templates/triton", nothing),
    templates("templates are a file", "there is no folder mine", "recsplit/templates/triton", Path.touch),
    templates("templates empty", "mine holds no template to replace ours", "ensemble.pbtxt.j2", Path.mkdir),
    templates("template of another name", "mine holds no template to replace ours", "dense.pbtxt.j2", one("other.j2", "")),
    templates("template with a syntax error", "dense.pbtxt.j2, line 2", "jinja", one("dense.pbtxt.j2", "name: 1\n{% for %}\n")),
    templates(
        "template with an unknown value",
        "dense.pbtxt.j2, line 1: 'modle' is undefined",
        "jinja",
        one("dense.pbtxt.j2", "{{ modle.name }}\n"),
    ),
    templates("template that divides by zero", "dense.pbtxt.j2, line 1: division by zero", "jinja", one("dense.pbtxt.j2", "{{ 1 / 0 }}\n")),
    templates("template in another encoding", "dense.pbtxt.j2: 'utf-8' codec can't decode", "jinja", latin),
    templates("template that renders nothing", "name is ''", "templates in mine", one("dense.pbtxt.j2", "")),
    templates("template of a broken config", "is not a Triton model config", "templates in mine", one("dense.pbtxt.j2", "name: {\n")),
    templates(
        "template of an unknown field",
        "is not a Triton model config",
        "templates in mine",
        ours("dense.pbtxt.j2", "max_batch_size:", "max_bath_size:"),
    ),
    templates(
        "template that loses the batch",
        "max_batch_size is 1, and the plan's is 2048",
        "templates in mine",
        ours("embedding.pbtxt.j2", "max_batch_size: {{ plan.max_batch_size }}", "max_batch_size: 1"),
    ),
]


@pytest.mark.parametrize("kind", [*OPTIONS, *TEMPLATES], ids=str)
def test_an_option_that_can_not_be_is_refused(kind: Kind, refused: Refused) -> None:
    refused(kind)
