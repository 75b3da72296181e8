"""What counts as kept by an API server."""

from typing import Any

import pytest

from tests.cluster.kept import lost


@pytest.mark.parametrize(
    ("sent", "kept", "paths"),
    [
        ({"a": 1}, {"a": 1, "status": {}}, []),
        ({"a": {"b": 1}}, {"a": {}}, ["/a/b"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["/a/0/b: 1 became 2"]),
        ({"a": [1, 2]}, {"a": [1]}, ["/a"]),
        ({"a": {"b": 1}}, {"a": "x"}, ["/a"]),
        ({"cpu": "0.5", "memory": "1024Mi", "value": "16250m"}, {"cpu": "500m", "memory": "1Gi", "value": "16250m"}, []),
        ({"cpu": "0.5"}, {"cpu": "600m"}, ["/cpu: '0.5' became '600m'"]),
        ({"a": {}, "b": None}, {}, []),
    ],
)
def test_what_a_server_leaves_out_or_changes_is_told(sent: Any, kept: Any, paths: list[str]) -> None:
    assert list(lost(sent, kept)) == paths
