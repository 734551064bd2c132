"""Measuring contenders side by side: processes that take turns, disturbed turns left out."""

import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cases import reference
from contenders import CONTENDERS, environment
from limits import barrier_now

DISTURBED = 0.05  # cores that other processes may use during a turn
ENOUGH = 3  # undisturbed turns that make a figure


def foreign_seconds(*own):
    """Return the processor time used so far by all processes but this one and `own` (0 where it is not told)."""
    total = 0
    for process in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not process.isdigit() or int(process) in (os.getpid(), *own):
            continue
        try:
            for task in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{task}/schedstat") as stat:
                    total += int(stat.read().split()[0])
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile
    return total * 1e-9


def wait_for_quiet(limit):
    """Wait until other processes use little, `limit` seconds at most."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < limit:
        used, since = foreign_seconds(), time.perf_counter()
        time.sleep(0.1)
        if (foreign_seconds() - used) / (time.perf_counter() - since) < DISTURBED:
            return


class Process:
    """A worker process, started when it is first asked and again after it died."""

    def __init__(self, name, threads):
        self.name, self.threads, self.process = name, threads, None

    def ask(self, order, timeout=120, **details):
        """Send an order and return the answer; {"failed": why} when none came."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, str(Path(__file__).with_name("worker.py")), self.name, str(self.threads)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            variables = environment(self.name, self.threads)
            self.process = subprocess.Popen(command, text=True, env=variables, **pipes)
        try:
            self.process.stdin.write(json.dumps({"order": order, **details}) + "\n")
            self.process.stdin.flush()
            ready = select.select([self.process.stdout], [], [], timeout)[0]
            line = self.process.stdout.readline() if ready else None
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        self.process.kill()
        self.process.wait()
        return {"failed": "the process died" if line == "" else f"no answer in {timeout} s", "absent": False}

    def stop(self):
        """End the process."""
        if self.process and self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(20)


def rows_of(case, names, most_threads=2):
    """Return the (contender, threads) that are measured for a case."""
    small = case.mode == "stream" and case.units < 256  # nobody shares a step of that size
    counts = (1,) if small else tuple(range(1, most_threads + 1))
    return [(name, count) for name in names for count in counts if case.mode in CONTENDERS[name].modes]


def measure(case, processes, rounds, budget, near, until):
    """Return the record of a case.

    `processes` are those of `rows_of`, by their key; `near` is that of `limits`. After the time `until` (of
    `time.perf_counter`) no round begins, once there are `ENOUGH`.
    """
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        wanted = reference(case)
        np.savez(file, *(wanted if isinstance(wanted, list) else [wanted]))
        file.flush()
        setups = {key: process.ask("setup", case=list(case), reference=file.name) for key, process in processes.items()}
    rows = {key: {"contender": key[0], "threads": key[1], **answer} for key, answer in setups.items()}
    live = [key for key, answer in setups.items() if "failed" not in answer]
    turns, barriers = {key: [] for key in live}, []
    shuffle = random.Random(1).shuffle
    for number in range(2 * rounds):
        enough = number >= rounds and all(len(_clean(turns[key])) >= ENOUGH for key in live)
        if not live or enough or (number >= ENOUGH and time.perf_counter() > until):
            break
        wait_for_quiet(0.3)
        barriers.append(barrier_now())
        shuffle(live)
        for key in list(live):
            turn = _turn(processes[key], budget)
            if "failed" in turn:
                rows[key] |= turn
                live.remove(key)
                del turns[key]
            else:
                turns[key].append(turn | {"near": barriers[-1] and barriers[-1] < near})
    for key in live:
        processes[key].ask("drop")
        rows[key] |= _summary(turns[key])
    return {"case": case._asdict(), "barriers_ns": barriers, "rows": [rows[key] for key in sorted(rows)]}


def _turn(process, budget):
    time.sleep(0.008)  # the threads of the last one stop spinning
    pid = process.process.pid
    used, begin = foreign_seconds(pid), time.perf_counter()
    answer = process.ask("run", budget=budget)
    return answer | {"foreign": (foreign_seconds(pid) - used) / (time.perf_counter() - begin)}


def _clean(turns):
    return [turn for turn in turns if turn["foreign"] < DISTURBED]


def _summary(turns):
    clean = _clean(turns)
    used = clean if len(clean) >= ENOUGH else turns
    medians = [turn["median"] for turn in used]
    low, middle, high = (float(q) for q in np.percentile(medians, [25, 50, 75]))
    found = {"median": middle, "least": min(turn["least"] for turn in turns), "spread": (high - low) / middle}
    for place, near in (("near", True), ("apart", False)):
        if there := [turn["median"] for turn in used if turn["near"] is near]:
            found[place] = float(np.median(there))
    return found | {"turns": len(turns), "clean": len(clean)}
