"""The comparisons are those that `python -m benchmarks.agreement` prints."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
