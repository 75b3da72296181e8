"""Keeps a served model repository at the right size while traffic changes.

Here belong: what is observed (Prometheus), what is decided (policies and their guard), and what is done about it (Triton's
load call, Kubernetes' scale). A decision is a function of an observation and sees neither network nor clock.

Not here: cutting, rendering or writing repositories (recsplit), and measuring (recsplit_perf). Of recsplit it takes only
`plan`, `strict` and `errors`, so that it runs with torch, onnx and jinja2 absent.
"""
