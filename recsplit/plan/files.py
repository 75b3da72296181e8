"""What the files of a build and the parameters in its configs are called: the one home of each name.

A model's files lie in its version folder, `<repository>/<model>/<version>/`; config.pbtxt lies beside that. The templates and the
backends that run inside Triton spell these names too: configs.check compares what was rendered, and tests compare the backends.
"""

CONFIG_FILE = "config.pbtxt"

#: In the ensemble's version folder: what was decided, and inputs with the source's answers.
PLAN_FILE = "plan.json"
REFERENCES_FILE = "references.safetensors"
#: In every model's version folder: the id of its build, and the config.pbtxt of that build, for going back to it.
BUILD_FILE = "build.txt"

#: In a sub-model's version folder. Rows of tables, places of rows and larger weights are ONNX external data beside the model.
MODEL_FILE = "model.onnx"
TABLES_FILE = "tables.bin"
PLACES_FILE = "places.bin"
WEIGHTS_FILE = "weights.bin"
#: Beside a model that recsplit's engine serves: what it does in the place of the ONNX model, and small buffers that it reads ids out of.
RECIPE_FILE = "engine.json"
BUFFERS_FILE = "buffers.bin"
#: The model before the cut, on the same tables, for the proof; a shard's CSR form, for servers of its own.
WHOLE_FILE = "whole.onnx"
BAGS_FILE = "bags.onnx"
#: The same as recsplit's engine does it.
BAGS_RECIPE_FILE = "bags.json"
#: In a router's version folder: what it does with queries.
ROUTING_FILE = "routing.json"
#: A TensorRT engine of the dense model, or the script that makes it on the machine that will serve.
ENGINE_FILE = "model.plan"
ENGINE_SCRIPT = "build_plan.sh"

#: What a config.pbtxt calls recsplit's engine.
ENGINE_BACKEND = "recsplit"

#: Parameters of a config.pbtxt. The ensemble's: the build's id. A sub-model's config has none, so that two builds of one architecture
#: have the same config, and a server that takes the new one loads nothing of the old one again.
BUILD_PARAMETER = "recsplit.build"
#: A sub-model's: the ensemble that it is a part of.
ENSEMBLE_PARAMETER = "recsplit.ensemble"
#: ONNX Runtime's threads of one instance, as NVIDIA's backend reads them.
THREADS_PARAMETER = "intra_op_thread_count"
#: The embedding model's: what the positions in `unknown_ids` mean, a JSON list with one object a lookup.
LOOKUPS_PARAMETER = "recsplit.lookups"
#: The ensemble's: what a client must know of ragged inputs, JSON {"bags": [plan.Bags as an object, ...], ...}.
CLIENT_PARAMETER = "recsplit.client"
#: A fused model's: the models that it is made of, a JSON list; in the first one's version folder lies the whole as one ONNX model.
PARTS_PARAMETER = "recsplit.parts"
#: A remote model's: where its shard's servers are and how they are asked, JSON.
REMOTE_PARAMETER = "recsplit.remote"

#: Tensors in external data begin at multiples of it, so that every session of every process maps a table as it lies on the disk,
#: and shares it.
PAGE_BYTES = 4096


def whole_pages(size_bytes: int) -> int:
    """`size_bytes` rounded up to whole pages."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
