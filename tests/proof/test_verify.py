"""The proof finds what is wrong: damaged weights, swapped tables, lost files, wrong shapes, and faults that come and go."""

import itertools
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from recsplit.building.build import Built
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import REFERENCES_FILE
from recsplit.plan.plan import UNKNOWN_IDS
from recsplit.proof import published
from recsplit.proof.cases import Case, make_cases, recorded
from recsplit.proof.parts import Array, Run
from recsplit.proof.stages import Difference, check
from tests.build.onnx_models import built, onnx_file
from tests.graph.small import table

TEXT = (
    "(int64[N,3] ids, int64[N] user, float[N,4] x) => (float[N,1] y, float[N,2] z) "
    "{ v=Gather(items,ids) s=ReduceMean<axes=[1],keepdims=0>(v) u=Gather(users,user) p=Mul(s,u) y=MatMul(p,w) z=MatMul(x,w4) }"
)
ARRAYS = {"items": table(50, 8), "users": table(50, 8, seed=1), "w": table(8, 1), "w4": table(4, 2)}
REFERENCES = Path("m/1") / REFERENCES_FILE
TABLES, MODEL, WHOLE = Path("m_embedding/1/tables.bin"), Path("m_embedding/1/model.onnx"), Path("m_embedding/1/whole.onnx")
DENSE = Path("m_dense/1/model.onnx")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Path]:
    """A build, and its source."""
    folder = tmp_path_factory.mktemp("verify")
    return built(folder, TEXT, ARRAYS), folder / "source.onnx"


@pytest.fixture
def repository(pristine: tuple[Built, Path], tmp_path: Path) -> Path:
    """A copy of the build to damage."""
    return shutil.copytree(pristine[0].repository, tmp_path / "copy")


def failures(differences: Iterable[Difference]) -> set[tuple[str, str]]:
    return {(item.stage, item.output) for item in differences if not item.ok}


def test_an_untouched_repository_is_proved_again(repository: Path, pristine: tuple[Built, Path]) -> None:
    differences = published.verify(repository, source=str(pristine[1]))
    assert not failures(differences)
    assert {item.stage for item in differences} >= {"source - recorded", "source - whole", "whole - parts", "batch - single rows"}
    assert all(item.absolute == 0 for item in differences if item.stage == "whole - parts")


def flip(path: Path, offset: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_a_flipped_exponent_bit_of_a_row_that_is_read_is_found(repository: Path) -> None:
    flip(repository / TABLES, 3, 4)  # row 0 of the first table, which every proof reads
    assert ("source - whole", "y") in failures(published.verify(repository))


def test_swapped_tables_are_found(repository: Path) -> None:
    data = (repository / TABLES).read_bytes()
    half = 50 * 8 * 4
    (repository / TABLES).write_bytes(data[half : 2 * half] + data[:half] + data[2 * half :])
    assert ("source - whole", "y") in failures(published.verify(repository))


def test_a_row_that_moved_is_found(repository: Path) -> None:
    data = (repository / TABLES).read_bytes()
    (repository / TABLES).write_bytes(data[32:] + data[:32])
    assert ("source - whole", "y") in failures(published.verify(repository))


def test_a_missing_zero_row_is_an_error_and_no_answer(repository: Path) -> None:
    data = (repository / TABLES).read_bytes()
    (repository / TABLES).write_bytes(data[:-32])
    with pytest.raises(RecsplitError):
        published.verify(repository)


def change_constant(path: Path, name: str, change: Callable[[Any], Array]) -> None:
    """Rewrite an initializer of a model file; external data stays where it is."""
    model = onnx.load(path, load_external_data=False)
    (tensor,) = [item for item in model.graph.initializer if name in item.name and item.data_location != onnx.TensorProto.EXTERNAL]
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, path)


def test_a_table_read_at_the_wrong_base_in_one_part_is_found_to_the_bit(repository: Path) -> None:
    change_constant(repository / MODEL, "base", lambda base: base - (base > 0))
    assert ("whole - parts", "y") in failures(published.verify(repository))


def test_a_dense_weight_that_is_off_by_a_millionth_is_found(repository: Path) -> None:
    change_constant(repository / DENSE, "w4", lambda weight: weight * np.float32(1 + 1e-6))
    assert failures(published.verify(repository)) == {("whole - parts", "z")}


def test_parts_of_another_build_are_refused(repository: Path, tmp_path: Path) -> None:
    other = built(tmp_path, TEXT, {**ARRAYS, "w": table(8, 1, seed=5)}, build_id="another").repository
    shutil.rmtree(repository / "m_dense")
    shutil.copytree(other / "m_dense", repository / "m_dense")
    with pytest.raises(RecsplitError, match="build"):
        published.verify(repository)


@pytest.mark.parametrize("path", [TABLES, MODEL, WHOLE, DENSE, REFERENCES])
def test_a_missing_file_is_an_error_that_names_it(repository: Path, path: Path) -> None:
    (repository / path).unlink()
    with pytest.raises(RecsplitError) as error:
        published.verify(repository)
    assert path.name in f"{error.value} {error.value.detail}"


@pytest.mark.parametrize("path", [TABLES, MODEL, WHOLE, DENSE, REFERENCES])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_a_truncated_file_is_an_error_and_never_a_proof(repository: Path, path: Path, part: float) -> None:
    data = (repository / path).read_bytes()
    (repository / path).write_bytes(data[: int(part * len(data))])
    with pytest.raises(RecsplitError):
        published.verify(repository)


def test_a_renamed_version_folder_is_refused(repository: Path) -> None:
    (repository / "m_embedding/1").rename(repository / "m_embedding/2")
    with pytest.raises(RecsplitError):
        published.verify(repository)


def test_another_source_differs_from_what_was_recorded(repository: Path, tmp_path: Path) -> None:
    other = onnx_file(tmp_path, TEXT, {**ARRAYS, "w": table(8, 1, seed=5)})
    assert failures(published.verify(repository, source=str(other))) == {("source - recorded", "y")}


def test_recorded_cases_come_back_as_they_were(repository: Path) -> None:
    cases = recorded(repository / REFERENCES)
    assert [case.name for case in cases] == ["one row", "odd batch", "first rows", "last rows", "duplicates", "largest batch"]
    tensors = load_file(repository / REFERENCES)
    assert sum(len(case.inputs) + len(case.outputs) for case in cases) == len(tensors)
    assert all(set(case.inputs) == {"ids", "user", "x"} and set(case.outputs) == {"y", "z"} for case in cases)


def cases(count: int = 6) -> list[Case]:
    return [
        Case(f"case {n}", {"x": np.full((2, 1), n, dtype=np.float32)}, {"y": np.full((2, 1), 2.0 * n + 1, dtype=np.float32)})
        for n in range(count)
    ]


def every(nth: int, wrong: float) -> Run:
    """A function that is right, but for every nth call, when one element is off by `wrong`."""
    calls, lock = itertools.count(1), threading.Lock()

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with lock:
            call = next(calls)
        answer = 2 * inputs["x"].astype(np.float32) + 1
        if call % nth == 0:
            answer[-1] += wrong
        return {"y": answer}

    return run


def test_a_fault_that_shows_once_in_fifty_calls_is_found_by_repeating() -> None:
    assert all(item.ok for item in check("once", cases(), every(50, 1.0), limit=1e-5))
    (difference,) = check("repeated", cases(), every(50, 1.0), limit=1e-5, repeats=3, threads=4)
    assert not difference.ok and difference.runs == 72 and difference.absolute == 1.0


def test_the_worst_case_is_told_with_both_errors() -> None:
    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["x"].astype(np.float32)
        return {"y": (2 * x + 1) * np.float32(1.001 if x.max() == 3 else 1)}

    (difference,) = check("stage", cases(), run, limit=1e-5)
    assert difference.case == "case 3" and not difference.ok
    assert difference.absolute == pytest.approx(0.007, rel=0.01) and difference.relative == pytest.approx(0.001, rel=0.01)


def test_a_row_whose_score_lies_near_zero_is_judged_by_the_size_of_scores() -> None:
    near_zero, usual = (
        Case(name, {"x": want}, {"y": want}) for name, want in (("near zero", np.full((1, 1), 1e-6)), ("usual", np.ones((4, 1))))
    )
    (difference,) = check("stage", [near_zero, usual], lambda inputs: {"y": inputs["x"].astype(np.float64) + 1e-7}, limit=1e-5)
    assert difference.ok and difference.relative == pytest.approx(1e-7)


def test_a_row_of_huge_numbers_hides_nothing_in_the_others() -> None:
    want = np.array([[1e8], [1.0], [2.0]], dtype=np.float32)
    case = Case("c", {"x": want}, {"y": want})
    (difference,) = check("s", [case], lambda inputs: {"y": want + np.array([[0], [0.1], [0]], dtype=np.float32)}, limit=1e-5)
    assert not difference.ok and difference.relative == pytest.approx(0.05, rel=0.01)


def test_rounding_of_a_row_near_zero_is_no_difference() -> None:
    want = np.array([[1e-7], [1.0], [2.0]], dtype=np.float32)
    noisy = want + np.float32(1e-7)
    one = Case("one", {"x": want[:1]}, {"y": want[:1]})
    three = Case("three", {"x": want}, {"y": want})
    (difference,) = check("s", [one, three], lambda inputs: {"y": noisy[: len(inputs["x"])]}, limit=1e-5)
    assert difference.ok and 0 < difference.relative < 1e-6


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_never_equal_to_numbers(wrong: float) -> None:
    (difference,) = check("stage", cases(), every(1, wrong), limit=1e9)
    assert not difference.ok


def test_nan_where_the_source_has_nan_is_equal_and_elsewhere_it_is_not() -> None:
    want = np.array([[1.0], [np.nan]], dtype=np.float32)
    case = Case("c", {"x": want}, {"y": want})
    assert check("s", [case], lambda inputs: {"y": want.copy()}, limit=0.0)[0].ok
    assert not check("s", [case], lambda inputs: {"y": want[::-1].copy()}, limit=1e9)[0].ok
    assert not check("s", [case], lambda inputs: {"y": np.ones((2, 1), dtype=np.float32)}, limit=1e9)[0].ok


def test_integers_are_compared_one_by_one() -> None:
    case = Case("c", {"x": np.zeros((3, 1))}, {"y": np.array([[1], [2], [3]])})
    (difference,) = check("s", [case], lambda inputs: {"y": np.array([[1], [2], [4]])}, limit=1e-5)
    assert not difference.ok and difference.absolute == 1


@pytest.mark.parametrize(
    "answer", [{}, {"y": np.zeros((1, 1))}, {"y": np.zeros((2, 2))}, {"y": np.zeros(2)}], ids=["absent", "fewer", "wider", "flat"]
)
def test_an_output_of_another_shape_is_an_error(answer: dict[str, Array]) -> None:
    with pytest.raises(RecsplitError, match="'y' has shape"):
        check("stage", cases(), lambda inputs: answer, limit=1.0)


def test_a_server_that_keeps_the_marks_to_itself_is_fine() -> None:
    marks = {UNKNOWN_IDS: np.zeros((2, 2), dtype=np.int64)}
    case = Case("c", {"x": np.zeros((2, 1))}, marks)
    assert check("s", [case], lambda inputs: {}, limit=0.0)[0].ok
    assert not check("s", [case], lambda inputs: {UNKNOWN_IDS: marks[UNKNOWN_IDS] + 1}, limit=0.0)[0].ok


def test_a_source_that_answers_nan_proves_nothing() -> None:
    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.full((2, 1), np.nan, dtype=np.float32)}

    with pytest.raises(InputError, match="NaN or infinity in output 'y'"):
        make_cases([("one", {"x": np.zeros((2, 1))})], run, lambda case: None)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64], ids=["empty", "short", "no cases", "noise"])
def test_broken_references_are_an_error_that_names_the_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / REFERENCES_FILE
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"references\.safetensors"):
        recorded(path)
