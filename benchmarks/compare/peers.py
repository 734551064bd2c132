"""Compare numbalstm with the LSTMs of other libraries on this machine, and write the figures to a file of results.

    python benchmarks/compare/peers.py                      all cases, about fifteen minutes on two cores
    python benchmarks/compare/peers.py --only "(1,100,"     the cases whose name holds that
    python benchmarks/compare/peers.py --modes train        only forward and backward passes, about four minutes
    python benchmarks/compare/peers.py --limits             only the limits of the machine

How it measures:

* Every contender with every number of threads is a process of its own. They take turns in a shuffled order, `--rounds`
  times over, each for about `--budget` seconds while the others sleep. A figure is the median of the turns' medians.
* A contender is timed only after its outputs agree with NumPy in float64 to 1e-4, in training its gradients, relative
  to the largest of each array. Those with weights or arithmetic of lower precision cannot; their error is recorded.
* A turn during which other processes used more than 5 % of a core is disturbed; such turns are left out where three
  others remain, and up to twice the rounds are run to get them.
* A virtual machine's cores are not always equally far apart: a barrier between them is timed before every round, and
  medians are also kept apart by that.
* A contender that is not installed, fails or hangs loses its row; the file says why. The figures of a case are
  replaced together, because only contenders that took turns can be compared.
"""

import argparse
import os
import time
from datetime import date
from pathlib import Path

import limits
import results
from cases import CASES
from contenders import CONTENDERS, DEFAULT
from turns import Process, measure, rows_of


def parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file of results (default: here, named after the machine)")
    parser.add_argument("--modes", default="infer,train,stream", help="default: %(default)s")
    parser.add_argument("--only", default="", help="part of the names of the cases to measure")
    parser.add_argument("--contenders", help=f"of {', '.join(CONTENDERS)} (default: those that matter in each mode)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=0.1, help="seconds of a turn (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=14, help="beyond it fewer rounds (default: %(default)s)")
    parser.add_argument("--limits", action="store_true", help="measure only the limits of the machine")
    return parser


def unit(seconds):
    """Return a time as people write it."""
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def show(name, record, began):
    """Print a measured case, fastest first, then what is missing."""
    barriers = " ".join(f"{barrier:.0f}" for barrier in record["barriers_ns"] if barrier is not None)
    print(f"{name}   {time.perf_counter() - began:.0f} s, barrier {barriers} ns", flush=True)
    for row in sorted(record["rows"], key=lambda row: row.get("median", 1e9)):
        who = f"  {row['contender']:>16} {row['threads']}t"
        if "median" in row:
            quality = f"spread {100 * row['spread']:4.1f} %  clean {row['clean']}/{row['turns']}"
            print(f"{who} {unit(row['median']):>10}  {quality}  error {row['error']:.0e}", flush=True)
        else:
            print(f"{who} left out: {row['failed']}", flush=True)


def main(arguments=None):
    """Measure, and save after every case."""
    options = parser().parse_args(arguments)
    wanted = {mode: options.contenders.split(",") if options.contenders else DEFAULT[mode] for mode in DEFAULT}
    names = dict.fromkeys(name for mode in options.modes.split(",") for name in wanted[mode])
    if unknown := set(names) - set(CONTENDERS):
        raise SystemExit(f"unknown contenders {sorted(unknown)}; known: {', '.join(CONTENDERS)}")
    path = options.out or results.default_path()
    found = results.load(path) | {"machine": results.machine()}
    if options.limits or "limits" not in found:
        print("limits of the machine ...", flush=True)
        found["limits"] = limits.measure()
        results.save(path, found)
    cases = [case for case in CASES if case.mode in options.modes.split(",") and options.only in case.name]
    near = limits.near(found["limits"])
    began, cores = time.perf_counter(), min(os.cpu_count() or 1, 2)
    processes = {(name, count): Process(name, count) for name in names for count in range(1, cores + 1)}
    for number, case in enumerate([] if options.limits else cases, 1):
        print(f"[{number}/{len(cases)}] ", end="")
        taking_part = {key: processes[key] for key in rows_of(case, wanted[case.mode], cores)}
        until = began + 60 * options.minutes * number / len(cases)
        record = measure(case, taking_part, options.rounds, options.budget, near, until)
        record |= {"date": date.today().isoformat(), "rounds": options.rounds, "budget": options.budget}
        known = found.get("cases", {}) | {case.name: record}
        found["cases"] = {case.name: known[case.name] for case in CASES if case.name in known}
        results.save(path, found)
        show(case.name, record, began)
    for process in processes.values():
        process.stop()
    print(f"written: {path}")


if __name__ == "__main__":
    main()
