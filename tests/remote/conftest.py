"""The modules beside the remote backend's model.py, which Triton's stub finds by their bare names."""

import sys
from pathlib import Path

BACKEND = Path(__file__).parents[2] / "recsplit/backends/remote"
sys.path.insert(0, str(BACKEND))
