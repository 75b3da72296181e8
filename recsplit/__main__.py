"""`python -m recsplit` is `recsplit`."""

import sys

from recsplit.cli import main

sys.exit(main())
