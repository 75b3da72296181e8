"""Metrics pages as Triton 2.51 writes them, for tests that need no server."""

from collections.abc import Mapping

NAMES = (
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_pending_request_count",
)


def page(models: Mapping[str, Mapping[str, float]], *, remote: tuple[str, ...] = ()) -> str:
    """A page: by model, values by the end of Triton's name ("request_success"); "p95_us" for the summary, NaN without."""
    lines = []
    for name in NAMES:
        lines.append(f"# TYPE {name} {'gauge' if 'pending' in name else 'counter'}")
        for model, values in models.items():
            value = values.get(name.removeprefix("nv_inference_"), 0)
            reason = ',reason="OTHER"' if "failure" in name else ""
            lines.append(f'{name}{{model="{model}"{reason},version="1"}} {value}')
    lines.append("# TYPE nv_inference_request_summary_us summary")
    for model, values in models.items():
        for quantile in ("0.5", "0.95", "0.99"):
            p95 = values.get("p95_us")
            lines.append(
                f'nv_inference_request_summary_us{{model="{model}",version="1",quantile="{quantile}"}} {"Nan" if p95 is None else p95}'
            )
    for model, values in models.items():
        if "worker_busy_us" in values:  # a model of the engine's
            lines.append(f'recsplit_worker_busy_us{{model="{model}",version="1"}} {values["worker_busy_us"]}')
    lines += [f'recsplit_remote_rows{{model="{model}",pid="7"}} 1' for model in remote]
    lines += ["# TYPE nv_cpu_utilization gauge", "nv_cpu_utilization 0.5"]
    return "\n".join(lines) + "\n"
