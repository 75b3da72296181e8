"""What autoscalers ask Prometheus, in PromQL: one place for the adapter's rules, KEDA's triggers and the tests.

Names are those that Triton has (`core/src/metrics.cc`), which published autoscaling examples often miss. What they miss as well:

* An ensemble's own queue and pending series are always near 0, since its steps wait, not it. Its request duration is the whole query's.
* Averages of a metric over all models are diluted by those that idle (Triton's issue 8979); every query here names one model.
* Durations are summed over requests, not executions: under dynamic batching their rate is no utilization. Nothing here needs one.
* A full queue is rejected without being counted at the step, and a request counter of successes can't exceed what a server sustains:
  so a shard's load is counted where it is offered, at the front's `remote` model, failures included. (Triton 2.51 counts all that a
  response sender answers as successes, errors too; should another count them as failures, the sum is the same.)
* Summaries are NaN after a minute without queries, and can't be added over pods: NaN is dropped and an idle pod counts as 0 ms.
"""

#: Names of the two metrics in the custom and the external metrics API.
P95_MS = "recsplit_p95_ms"
OFFERED_QPS = "recsplit_offered_qps"

#: How far back rates look: four scrapes at 15 s, and the width of Triton's own summaries.
WINDOW_S = 60

#: Labels of pods that PodMonitors carry over to series, and what they are called there.
INSTANCE, COMPONENT = "app.kubernetes.io/instance", "app.kubernetes.io/component"
VERSION, PART_OF = "app.kubernetes.io/version", "app.kubernetes.io/part-of"
POD_LABELS = (INSTANCE, COMPONENT, VERSION, PART_OF)

#: The series by which the adapter discovers that there is anything to ask.
SUMMARY = "nv_inference_request_summary_us"
SUCCESSES = "nv_inference_request_success"
FAILURES = "nv_inference_request_failure"
#: Of a shard elsewhere, where the front is one model of recsplit's engine and Triton has none for the shard.
REQUESTS = "recsplit_remote_requests"


def series_label(pod_label: str) -> str:
    """What Prometheus calls a pod's label: a label name of PromQL has no '.', '/' or '-'."""
    return "".join(letter if letter.isalnum() else "_" for letter in pod_label)


def p95_ms(matchers: str, by: str) -> str:
    """The 95th percentile of a model's latency, in ms, as each pod's own window of a minute has it; one series for each value of `by`."""
    measured = f'max by ({by}) ({SUMMARY}{{{matchers},quantile="0.95"}} >= 0) / 1000'
    idle = f"max by ({by}) (0 * {SUCCESSES}{{{matchers}}})"
    return f"{measured} or {idle}"


def mean_p95_ms(matchers: str) -> str:
    """The mean over pods of `p95_ms`: what a HorizontalPodAutoscaler makes of a metric of pods."""
    return f"avg({p95_ms(matchers, 'pod')})"


def offered_qps(matchers: str) -> str:
    """Queries a second that the front servers send to a model, answered or not."""
    front = f'{matchers},{series_label(COMPONENT)}="front"'
    answered, failed, asked = (f"sum(rate({name}{{{front}}}[{WINDOW_S}s]))" for name in (SUCCESSES, FAILURES, REQUESTS))
    return f"{answered} + ({failed} or vector(0)) or {asked}"


def matchers(**labels: str) -> str:
    """Label matchers of PromQL. Values are names that Kubernetes allows, which need no escapes."""
    return ",".join(f'{key}="{value}"' for key, value in labels.items())
