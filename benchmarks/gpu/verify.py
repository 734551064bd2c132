"""Check and measure the CUDA kernels on a real GPU: one command, resumable, about eight minutes.

    python benchmarks/gpu/verify.py --compile                   # without a GPU, before: some minutes
    python benchmarks/gpu/verify.py --output results.json

Every finished step is written to the file at once; a run that is started again with the same file goes on behind the
last one. The table comes last. PyTorch is needed for the comparison with cuDNN only, compute-sanitizer for the race
and memory checks only; without them these steps say so.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import checks
import timing

from numbalstm import set_gpu
from numbalstm.backends.cuda import device as gpu
from numbalstm.backends.cuda import presence


def versions(device):
    """Packages, driver and device."""
    from cuda.bindings import driver

    names = ("numpy", "numba", "numba-cuda", "cuda-core", "cuda-bindings", "nvidia-nvvm", "torch")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found | {"device": device.name, "limits": list(device.limits), "driver": driver.cuDriverGetVersion()[1]}


def sanitizer(device):
    """compute-sanitizer over small shapes: memory, races, barriers, uninitialised reads."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"skipped": "compute-sanitizer was not found"}
    found = {}
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--small"]
        done = subprocess.run(command, capture_output=True, text=True)
        found[tool] = {"status": done.returncode, "end": done.stdout[-400:]}
    return found | {"good": all(entry["status"] == 0 for entry in found.values())}


def plan():
    """Yield name and function of every step, in order."""
    yield "versions", versions
    for row in checks.CORRECTNESS:
        yield "correct " + " ".join(map(str, row[:-1])), lambda device, row=row: checks.correctness(device, *row)
    yield "variants", checks.variants
    yield "whole rows", checks.whole_rows
    yield "checkpoints", checks.checkpoints
    yield "repeats", checks.repeats
    yield "sanitizer", sanitizer
    yield "layers on the gpu", checks.layers_on_the_gpu
    yield "stream", timing.stream_of_steps
    yield "at once", timing.at_once
    yield "memory", checks.memory
    yield "first result", timing.first_result
    yield "us a step", timing.step_cost
    for case in timing.CASES:
        label = " ".join(map(str, case))
        for mode in ("fp32", "tf32", "bf16"):
            yield f"ours {label} {mode}", lambda device, case=case, mode=mode: timing.ours(device, *case, mode)
        for mode in ("fp32", "tf32", "fp16", "bf16"):
            yield f"cudnn {label} {mode}", lambda device, case=case, mode=mode: timing.cudnn(device, *case, mode)


def times(found):
    """Return what a step tells beside its judgement, if that is numbers."""
    told = {key: value for key, value in found.items() if isinstance(value, dict) and key not in ("plain", "masked")}
    if "seconds" in found:
        return f"  {found['seconds'][0]:.1f} s, then {found['seconds'][1]:.1f} s"
    told = {key: value for key, value in told.items() if not {"error", "status"} & set(value)}
    return "".join(
        f"\n  {key:<42}" + "  ".join(f"{name} {number:.3g}" for name, number in value.items())
        for key, value in told.items()
    )


def compile_ahead():
    """Compile most of what the steps launch, so that a card is not lent for compiling."""
    from numbalstm.backends.cuda import choice, rehearsal

    jobs = [(mode, kernel, row) for mode, kernel, *row, _ in checks.CORRECTNESS]
    jobs += [(mode, "auto", case) for case in timing.CASES for mode in ("fp32", "tf32", "bf16")]
    for mode, kernel, (batch, steps, features, units) in jobs:
        set_gpu(mode, kernel)
        for what in ("forward", "masked", "training"):
            found = rehearsal.kernels("float32", batch, steps, features, units, what, choice.H100)
            start = time.perf_counter()
            rehearsal.build(found, choice.H100)
            sizes = f"{batch} {steps} {features} {units}"
            print(f"{mode} {kernel} {sizes} {what}: {time.perf_counter() - start:.1f} s", flush=True)


def table(results):
    """Return the results as lines of text."""
    lines = []
    for name, found in results.items():
        if "error" in found or "skipped" in found:
            lines.append(f"{name:<44}{found.get('error') or found.get('skipped')}")
        elif "good" in found:
            lines.append(f"{name:<44}{'good' if found['good'] else 'WRONG'}{times(found)}")
        elif "forward" in found:
            lines.append(f"{name:<44}" + "  ".join(f"{key} {value:.3f} ms" for key, value in found.items()))
        else:
            lines.append(f"{name:<44}{json.dumps(found)}")
    return lines


def main():
    """Run what is not in the file yet; status 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="results, read first and written to")
    parser.add_argument("--small", action="store_true", help="only the small shapes that the sanitizer watches")
    parser.add_argument("--compile", action="store_true", help="only compile ahead; needs no GPU")
    parser.add_argument("--minutes", type=float, default=8, help="begin no step after so many; %(default)s")
    options = parser.parse_args()
    if options.compile:
        compile_ahead()
        return 0
    problem = presence.problem()
    if problem is not None:
        print(f"nothing can be checked here: {problem}")
        return 2
    device = gpu.get()
    if options.small:
        checks.small(device)
        return 0
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    end = time.monotonic() + 60 * options.minutes
    for name, step in plan():
        if name in results:
            continue
        if time.monotonic() > end:
            print(f"{options.minutes:g} minutes are over: run again to go on behind the last step")
            break
        try:
            results[name] = step(device)
        except Exception as error:  # the other steps still tell something
            results[name] = {"error": repr(error)[:400], "good": False}
        options.output.write_text(json.dumps(results, indent=1))
        print(table({name: results[name]})[0], flush=True)
    print("\n" + "\n".join(table(results)))
    return int(any(found.get("good") is False for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
