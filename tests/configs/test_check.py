"""What the check of rendered configs finds: one fault a row, made in texts that are right."""

import pytest

from recsplit.configs.check import check
from recsplit.configs.render import render
from recsplit.errors import RecsplitError
from tests.configs.plans import shop

WIDE_IN, WIDE_OUT = 'input_map { key: "wide" value: "wide" }', 'output_map { key: "wide" value: "wide" }'
SCORE = 'key: "score" value: "score"'

# What is wrong: the model, a text of its config, what stands there instead, and what the check says.
FAULTS = {
    "another name": ("shop_dense", 'name: "shop_dense"', 'name: "dense"', "name is 'dense', and must be its folder's"),
    "another batch size": ("shop", "max_batch_size: 512", "max_batch_size: 64", "max_batch_size is 64, and the plan's is 512"),
    "another build": ("shop", '"0f5e"', '"aaaa"', "parameter recsplit.build is 'aaaa'"),
    "another ensemble": ("shop_dense", 'string_value: "shop"', 'string_value: "books"', "parameter recsplit.ensemble is 'books'"),
    "another version": ("shop_dense", "versions: [ 1 ]", "versions: [ 2 ]", "version_policy must be specific { versions: [ 1 ] }"),
    "two versions": ("shop_dense", "versions: [ 1 ]", "versions: [ 1, 2 ]", "or answers may be made of two builds"),
    "the newest version": ("shop", "specific { versions: [ 1 ] }", "latest { num_versions: 1 }", "version_policy must be specific"),
    "a step of any version": ("shop", "model_version: 1", "model_version: -1", "names version -1, and the plan's is 1"),
    "no lookups": ("shop_embedding", '"recsplit.lookups"', '"lookups"', "parameter recsplit.lookups is missing"),
    "no client": ("shop", '"recsplit.client"', '"client"', "parameter recsplit.client is missing"),
    "another file": ("shop_dense", '"model.onnx"', '"dense.onnx"', "the build writes 'model.onnx'"),
    "another backend": ("shop_dense", '"onnxruntime"', '"python"', "the model is made for 'onnxruntime'"),
    "another type": ("shop_dense", "TYPE_FP32\n    dims: [ 13 ]", "TYPE_FP16\n    dims: [ 13 ]", "'dense' is FP16 [batch, 13]"),
    "other dims": ("shop_embedding", "[ 3, 16 ]", "[ 3, 8 ]", "'pooled' is FP32 [batch, 3, 8], and the plan has FP32 [batch, 3, 16]"),
    "a variable dim": ("shop_dense", "dims: [ 3, 16 ]", "dims: [ 3, -1 ]", "'pooled' is FP32 [batch, 3, -1]"),
    "no reshape": ("shop_dense", "reshape: { shape: [ ] }", "", "'wide' is FP32 [batch, 1], and the plan has FP32 [batch]"),
    "a reshape in the ensemble": ("shop", "dims: [ 1 ]", "dims: [ 1 ] reshape: { shape: [ ] }", "an ensemble's input can't have a reshape"),
    "an unknown step": ("shop", 'model_name: "shop_dense"', 'model_name: "ranker"', "a step names the model 'ranker'"),
    "an unknown step input": ("shop", 'input_map { key: "wide"', 'input_map { key: "deep"', "maps the input 'deep', which that model"),
    "an unmapped input": ("shop", WIDE_IN, "", "gets nothing for its input 'wide'"),
    "nothing for an input": ("shop", WIDE_IN, WIDE_IN.replace('"wide" }', '"wider" }'), "nothing produces 'wider'"),
    "the wrong tensor": ("shop", WIDE_IN, WIDE_IN.replace('"wide" }', '"pooled" }'), "takes FP32 [batch, 1] as 'wide'"),
    "an unknown output": ("shop", 'output_map { key: "score"', 'output_map { key: "logit"', "maps the output 'logit'"),
    "an output nobody makes": ("shop", SCORE, 'key: "score" value: "logit"', "no step produces the output 'score'"),
    "an output nobody uses": ("shop", SCORE, 'key: "score" value: "logit"', "'logit' is produced and nobody uses it"),
    "an unmapped output": ("shop", WIDE_OUT, "", "the output 'wide' of step 'shop_embedding' is not mapped"),
    "made twice": ("shop", WIDE_OUT, WIDE_OUT.replace('"wide" }', '"pooled" }'), "'pooled' is produced 2 times"),
    "an input made again": ("shop", WIDE_OUT, WIDE_OUT.replace('"wide" }', '"user" }'), "'user' is produced 2 times"),
    "a circle": ("shop", 'key: "user" value: "user"', 'key: "user" value: "score"', "['shop_embedding', 'shop_dense'] wait for each other"),
    "an unused input": ("shop", 'input_map { key: "dense" value: "dense" }', "", "'dense' is produced and nobody uses it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    texts = render(shop())
    model, old, new, message = FAULTS[fault]
    path = f"{model}/config.pbtxt"
    assert old in texts[path]
    texts[path] = texts[path].replace(old, new)
    with pytest.raises(RecsplitError) as error:
        check(shop(), texts)
    assert message in str(error.value)


def test_all_faults_are_listed_at_once() -> None:
    texts = {path: text.replace("512", "64").replace('"0f5e"', '"x"') for path, text in render(shop()).items()}
    with pytest.raises(RecsplitError) as error:
        check(shop(), texts)
    assert str(error.value).count("max_batch_size is 64") == 3
    assert str(error.value).count("recsplit.build is 'x'") == 1


def test_a_missing_config_is_a_fault() -> None:
    texts = render(shop())
    del texts["shop_dense/config.pbtxt"]
    with pytest.raises(RecsplitError, match=r"shop_dense/config\.pbtxt is missing"):
        check(shop(), texts)
