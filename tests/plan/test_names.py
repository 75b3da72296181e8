"""Names that have one home in recsplit.plan, and those who can't import it: the backends that run inside Triton, and the templates."""

import ast
import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from tritonclient.utils import np_to_triton_dtype

from recsplit.plan import files
from recsplit.plan.dtypes import NUMPY, ONNX, SIZE_BYTES, TRITON

ROOT = Path(__file__).parents[2]
BACKENDS = ROOT / "recsplit" / "backends"


def assigned(path: Path, name: str) -> object:
    """The literal that a module assigns to a name; the module isn't imported, for it needs Triton."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no {name}")


@pytest.mark.parametrize("triton", [name for name in NUMPY if name != "BF16"])
def test_each_dtype_is_what_tritons_client_numpy_and_onnx_take_it_for(triton: str) -> None:
    dtype = np.dtype(NUMPY[triton])
    assert np_to_triton_dtype(dtype) == triton
    assert dtype.itemsize == SIZE_BYTES[triton]
    assert ir.DataType[ONNX[triton]].numpy() == dtype


def test_onnx_names_lead_back_to_tritons() -> None:
    assert {triton: TRITON[onnx] for triton, onnx in ONNX.items()} == {triton: triton for triton in ONNX}
    assert SIZE_BYTES["BF16"] == ir.DataType[ONNX["BF16"]].itemsize


def test_the_stand_in_reads_the_same_dtypes_as_the_plan_has() -> None:
    table = assigned(BACKENDS / "onnxruntime" / "ort_signature.py", "DTYPES")
    assert isinstance(table, dict)
    assert {f"tensor({ONNX[name].lower()})": f"TYPE_{name}" for name in ONNX if name != "BF16"} == table


def test_backends_read_the_parameters_that_configs_are_written_with() -> None:
    assert assigned(BACKENDS / "onnxruntime" / "ort_lookups.py", "PARAMETER") == files.LOOKUPS_PARAMETER
    assert assigned(BACKENDS / "remote" / "remote_settings.py", "PARAMETER") == files.REMOTE_PARAMETER


def test_no_other_module_spells_a_name_out() -> None:
    """Names of files and parameters are imported; quoted in code, they would be a second home."""
    names = {value for key, value in vars(files).items() if key.endswith(("_FILE", "_PARAMETER", "_SCRIPT"))}
    quoted = re.compile(r'"(?:' + "|".join(re.escape(name) for name in sorted(names)) + r')"')
    folders = [ROOT / "recsplit", ROOT / "controller", ROOT / "perf" / "recsplit_perf"]
    modules = [path for folder in folders for path in folder.rglob("*.py") if not path.is_relative_to(BACKENDS)]
    modules.remove(ROOT / "recsplit" / "__init__.py")  # its "recsplit.client" is a package
    elsewhere = [path for path in modules if path.parent.name not in ("benchmarks", "plan") and quoted.search(path.read_text())]
    assert not elsewhere
