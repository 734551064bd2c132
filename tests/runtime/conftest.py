"""Scripts in processes of their own: what happens to a process as a whole cannot be tested inside pytest's."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def environment(**changes):
    """The environment of a script, which finds the package and the module `calls`."""
    path = os.pathsep.join([str(ROOT), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **changes}


@pytest.fixture
def start(tmp_path):
    """Start a script, as a file so that spawned children can import it; gives the process."""
    running = []

    def start(script, *arguments, **changes):
        file = tmp_path / f"script{len(running)}.py"
        file.write_text(script)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore:.*fork:DeprecationWarning", str(file), *map(str, arguments)],
            env=environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if hasattr(os, "killpg"):  # the children too: they hold the pipes open
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()


@pytest.fixture
def run(start):
    """Run a script; one that hangs or fails fails the test. Gives what it printed, line by line."""

    def run(script, *arguments, timeout=60, **changes):
        process = start(script, *arguments, **changes)
        output, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, output + errors
        return output.splitlines()

    return run


@pytest.fixture(scope="session", autouse=True)
def warm():
    """Let one process compile what the scripts need, before several do at once."""
    script = "from calls import digest; digest(1); digest(2)"
    subprocess.run([sys.executable, "-c", script], env=environment(NUMBA_NUM_THREADS="2"), check=True, timeout=300)
