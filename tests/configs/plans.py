"""Plans made by hand, for tests of what is made from plans."""

from recsplit.plan.plan import Bags, Lookup, Plan, Source, Submodel, Table, Tensor


def shop(*, name: str = "shop", build: str = "0f5e", version: int = 1) -> Plan:
    """A small ranker: dense features, one column of user ids, bags of item ids, an optional weight, unknown ids an error."""
    dense, user = Tensor("dense", "FP32", (13,)), Tensor("user", "INT64", ())
    values, lengths = Tensor("items", "INT64", (-1,)), Tensor("items_lengths", "INT64", (2,))
    pooled, wide = Tensor("pooled", "FP32", (3, 16)), Tensor("wide", "FP32", ())
    unknown, score = Tensor("unknown_ids", "INT64", (2,)), Tensor("score", "FP32", ())
    return Plan(
        name=name,
        version=version,
        build=build,
        source=Source("factory", "shop.models:ranker", None),
        max_batch_size=512,
        queue_delay_us=0,
        queue_timeout_us=0,
        unknown_ids="error",
        inputs=(dense, user, values, lengths),
        outputs=(score, unknown),
        boundary=(pooled, wide),
        tables=(
            Table("users", 1000, 16, "FP32", "FP32", 64_000),
            Table("items", 5000, 16, "FP32", "FP32", 320_000),
            Table("bias", 1000, 1, "FP32", "FP32", 4000),
        ),
        lookups=(
            Lookup("users.0", "users", "none", ("user",), None, 0, True, 1000, 1),
            Lookup("items.0", "items", "sum", ("items",), None, 0, True, 5000, 20),
            Lookup("items.1", "items", "mean", ("items",), None, 2500, True, 2500, 20),
            Lookup("bias.0", "bias", "none", ("user",), None, 0, False, None, 1),
        ),
        bags=(Bags("items", "items_lengths", None, ("viewed", "bought"), "values", "offsets", None, None, None, False),),
        embedding=Submodel(f"{name}_embedding", "embedding", (user, values, lengths), (pooled, wide, unknown), "onnxruntime", "cpu", 4, 1),
        shards=(),
        losses=(),
        ordered_by="",
        resident=(),
        readings=(),
        dense=Submodel(f"{name}_dense", "dense", (dense, pooled, wide), (score,), "onnxruntime", "cpu", 2, 2),
        form="ensemble",
        tolerance=1e-5,
    )
