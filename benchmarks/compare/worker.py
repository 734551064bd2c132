"""One contender with one number of threads, in a process of its own: reads orders from stdin, answers on stdout.

    python worker.py CONTENDER THREADS

Orders and answers are lines of JSON. Whatever a library prints goes to stderr.
"""

import gc
import json
import os
import sys
import time

import numpy as np
from cases import Case, Problem
from contenders import CONTENDERS

TOLERANCE = 1e-4


class Worker:
    """Holds one built case."""

    def __init__(self, name, threads):
        self.contender, self.threads, self.call = CONTENDERS[name], threads, None

    def setup(self, case, reference):
        """Build a case, compare it with the arrays in the file `reference`, and warm it up."""
        case = Case(*case)
        self.call = None
        gc.collect()
        call, result = self.contender.build(case, Problem(case), self.threads)
        call()
        found = result()
        with np.load(reference) as wanted:
            error = difference(found if isinstance(found, list) else [found], list(wanted.values()))
        if not error <= TOLERANCE and not self.contender.loose:
            raise ValueError(f"wrong result: off by {error:.1e}")
        call()
        self.call = call
        return {"error": error}

    def run(self, budget):
        """Time single calls for about `budget` seconds."""
        call, clock = self.call, time.perf_counter
        gc.collect()
        gc.disable()
        begin = clock()
        call()
        if clock() - begin < budget / 4:  # wake the cores and the thread pool
            until = clock() + min(0.2 * budget, 0.02)
            while clock() < until:
                call()
        times, until = [], clock() + budget
        while not times or clock() < until:
            begin = clock()
            call()
            times.append(clock() - begin)
        gc.enable()
        return {"median": float(np.median(times)), "least": min(times), "calls": len(times)}

    def drop(self):
        """Forget the case."""
        self.call = None
        gc.collect()
        return {}


def difference(found, wanted):
    """Return the largest difference of arrays, in units of the largest number of an array where that exceeds 1."""
    if (shapes := [array.shape for array in found]) != (expected := [array.shape for array in wanted]):
        raise ValueError(f"shapes {shapes}, expected {expected}")
    pairs = zip(found, wanted, strict=True)
    return float(np.max([np.abs(one - two).max() / max(1.0, np.abs(two).max()) for one, two in pairs]))  # NaN stays NaN


def main(name, threads):
    """Serve orders until stdin ends; an order that fails is answered, not fatal."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(name, int(threads))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(worker, order.pop("order"))(**order)
        except Exception as error:  # of any library
            absent = isinstance(error, (NotImplementedError, ImportError))
            answer = {"failed": f"{type(error).__name__}: {error}"[:200], "absent": absent}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
