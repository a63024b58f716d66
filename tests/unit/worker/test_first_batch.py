"""What the first batch would import in a worker, and the first commit in the store, is there before they are ready."""

from __future__ import annotations

import subprocess
import sys

import pytest

_WORKER = """
import sys
import pyarrow as pa
from rabbitray.actors.worker import actor
from rabbitray.actors.worker.batch import result_table
before = set(sys.modules)
result_table._times([1])
print(*sorted(set(sys.modules) - before))
"""

_STORE = """
import sys
import numpy as np
import pyarrow as pa
from rabbitray.actors.store import actor
before = set(sys.modules)
pa.array(np.arange(1), mask=np.array([True]))
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("code", [_WORKER, _STORE], ids=["worker", "store"])
def test_nothing_large_is_imported_by_the_first_batch(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = done.stdout.split()
    assert not [name for name in new if name.startswith(("pyarrow", "numpy"))]
