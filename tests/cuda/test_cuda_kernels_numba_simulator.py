"""The step kernels, forward and backward, in Numba's own simulator of CUDA."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_step_kernels_agree():
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [sys.executable, str(HERE / "numba_simulated_step.py")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("agrees")
