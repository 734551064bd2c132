"""What numbalstm makes of masks, ragged and odd sizes, other types, Python threads, a fresh process, other cells.

    python benchmarks/compare/variants.py                   all sections, about six minutes
    python benchmarks/compare/variants.py masks start       some of them

Every figure is a ratio of two times measured in turns, or a time, beside the target that it is held to. Sections are
written into the same file of results as the comparison with other libraries.
"""

import argparse
import sys
import time
import traceback
from datetime import date
from functools import partial
from pathlib import Path

import cells
import numpy as np
import ratios
import results
from cases import forward
from precision import lower_precision, models, quick_arithmetic
from ratios import brief, in_turns, plural, ratio, row
from starting import starts

import numbalstm as nl

LIMITS = {}  # of the machine, from the file of results


def made(batch, steps, features, units, dtype="float32"):
    """Return seeded inputs and a layer that returns sequences, once its outputs agree with plain NumPy."""
    rng = np.random.default_rng((batch, steps, features, units))
    x = rng.standard_normal((batch, steps, features)).astype(dtype)
    bound = units**-0.5
    shapes = ((features, 4 * units), (units, 4 * units), (4 * units,))
    weights = [rng.uniform(-bound, bound, shape).astype(dtype) for shape in shapes]
    layer = nl.LSTM(units, return_sequences=True, dtype=dtype, input_shape=(None, features), weights=weights)
    few = x[:3, :7]
    np.testing.assert_allclose(layer(few), forward(few, *weights), atol=1e-5)
    return x, layer


def masks():
    """Time with a mask over the time without."""
    for size in ((64, 100, 64, 256), (32, 100, 64, 64), (1, 100, 64, 128)):
        x, layer = made(*size)
        every = np.ones(size[:2], bool)
        holes = np.random.default_rng(3).random(size[:2]) < 0.9
        np.testing.assert_allclose(layer(x, mask=every), layer(x), atol=1e-6)
        for threads in (1, 2):
            nl.set_threads(threads)
            for name, mask in (("all steps count", every), ("one step in ten masked", holes)):
                value = ratio(partial(layer, x, mask=mask), partial(layer, x))
                yield row(f"{name}, {brief(size)}, {plural(threads)}", 100 * (value - 1), "%", at_most=10)


def ragged():
    """Time of a true step of right-padded or ragged input over that of a step of full input."""
    for size in ((64, 100, 64, 256), (32, 100, 64, 64), (256, 100, 32, 64)):
        x, layer = made(*size)
        lengths = np.random.default_rng(4).integers(1, size[1] + 1, size[0])
        part = lengths.sum() / (size[0] * size[1])
        mask = np.arange(size[1]) < lengths[:, None]
        rows = [np.ascontiguousarray(sequence[:n]) for sequence, n in zip(x, lengths, strict=True)]
        np.testing.assert_allclose(layer(rows)[5], layer(x, mask=mask)[5, : lengths[5]], atol=1e-6)
        for threads in (1, 2):
            nl.set_threads(threads)
            for name, call in (
                ("right-padded", partial(layer, x, mask=mask)),
                ("list of sequences", partial(layer, rows)),
            ):
                value = ratio(call, partial(layer, x)) / part
                yield row(f"{name}, {brief(size)}, {plural(threads)}", value, at_most=1.2)


def odd_sizes():
    """Time per unit of work at an odd size over that at the round size beside it."""
    nl.set_threads(1)
    base = {"batch": 16, "steps": 100, "features": 32, "units": 128}
    pairs = {"units": ((33, 32), (100, 96), (300, 288)), "features": ((1, 8), (7, 8)), "batch": ((3, 4), (17, 16))}
    for name, values in pairs.items():
        for odd, even in values:
            (x, layer), (y, other) = made(**base | {name: odd}), made(**base | {name: even})
            work = [len(a) * b.units * (a.shape[2] + b.units) for a, b in ((x, layer), (y, other))]
            value = ratio(partial(layer, x), partial(other, y)) * work[1] / work[0]
            yield row(f"{name} {odd} beside {even}", value, at_most=1.25)


def float64():
    """Rate in float64 over that in float32."""
    for size in ((32, 100, 128, 256), (1, 100, 64, 128), (256, 28, 28, 128)):
        (x, single), (y, double) = made(*size), made(*size, "float64")
        for threads in (1, 2):
            nl.set_threads(threads)
            value = ratio(partial(single, x), partial(double, y))
            yield row(f"{brief(size)}, {plural(threads)}", value, at_least=0.5)


def weights():
    """Speed with weights of lower precision over that with float32, and the largest error of the outputs."""
    for units in (512, 1024, 2048):
        x, layer = made(1, 50, units // 2, units)
        for name, target in (("bfloat16", 2.0 if units == 2048 else 1.3), ("int8", None)):
            other = lower_precision(layer, name)
            error = float(np.abs(other(x) - layer(x)).max())
            for threads in (1, 2):
                nl.set_threads(threads)
                value = ratio(partial(layer, x), partial(other, x))
                what = f"{name}, one sequence, {units} units, {plural(threads)} (error {error:.0e})"
                yield row(what, value, at_least=target)


def on_models():
    """Speed of whole models with weights of lower precision over float32, their error, and classes that change."""
    nl.set_threads(2)
    for name, model, x, classes in models():
        wanted = model.predict(x)
        for dtype in ("bfloat16", "int8"):
            other = lower_precision(model, dtype)
            found = other.predict(x)
            speed = ratio(partial(model.predict, x), partial(other.predict, x))
            yield row(f"{name}, {dtype}: speed over float32", speed)
            yield row(f"{name}, {dtype}: largest error", float(np.abs(found - wanted).max()), "")
            if classes:
                changed = 100 * float(np.mean(found.argmax(1) != wanted.argmax(1)))
                yield row(f"{name}, {dtype}: answers that change", changed, "%", at_most=0.5)


def arithmetic():
    """Rate with compute_dtype="bfloat16" over the measured float32 peak."""
    for size in ((32, 100, 128, 256), (64, 100, 256, 512), (64, 50, 512, 1024)):
        x, layer = made(*size)
        other = quick_arithmetic(layer)
        if not LIMITS:
            raise NotImplementedError("the limits of this machine are not measured")
        error = float(np.abs(other(x) - layer(x)).max())
        for threads in (1, 2):
            nl.set_threads(threads)
            seconds = float(np.median(in_turns(partial(other, x))))
            rate = 8e-9 * x[..., 0].size * size[3] * (size[2] + size[3]) / seconds
            what = f"{brief(size)}, {plural(threads)} (error {error:.0e})"
            yield row(what, rate / LIMITS[f"gflops_{threads}"], at_least=1.6)


def python_threads():
    """Calls a second of two Python threads over those of one, with one thread inside each call."""
    nl.set_threads(1)
    for size in ((16, 100, 64, 128), (1, 100, 64, 128), (1, 10, 8, 16)):
        x, layer = made(*size)
        _, other = made(*size)
        for name, second in (("one layer", layer), ("two layers", other)):
            yield row(f"{name}, {brief(size)}", _throughput([layer, second], x) / _throughput([layer], x), at_least=1.7)


def _throughput(layers, x):
    """Return the calls a second of all the layers together, each in a thread of its own, for a budget of time."""
    from threading import Barrier, Thread

    counts, together = [], Barrier(len(layers))

    def work(layer):
        done = 0
        together.wait()
        until = time.perf_counter() + ratios.BUDGET
        while time.perf_counter() < until:
            layer(x)
            done += 1
        counts.append(done)

    threads = [Thread(target=work, args=(layer,)) for layer in layers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / ratios.BUDGET


def denormals():
    """Time of steps on numbers too small to be normal over that of ordinary steps."""
    nl.set_threads(1)
    x, _ = made(1, 1000, 16, 64)
    tiny = np.full_like(x, 1e-40)
    rng = np.random.default_rng(8)
    weights = [rng.uniform(-0.2, 0.2, shape).astype(np.float32) for shape in ((16, 256), (64, 256))]
    layer = nl.LSTM(64, use_bias=False, input_shape=(None, 16), weights=weights)
    yield row("1000 steps, 64 units", ratio(lambda: layer(tiny), lambda: layer(x)), at_most=1.1)


def start():
    """Seconds of a fresh process until its first result."""
    cold, warm, imported = starts()
    yield row("nothing compiled: first call compiles the float32 path", cold, "s", at_most=6)
    yield row("compiled code on disk", warm, "s", at_most=0.45)
    yield row("a process that only imports numbalstm", imported, "s")


SECTIONS = {
    "masks": masks,
    "ragged": ragged,
    "odd sizes": odd_sizes,
    "float64": float64,
    "weights": weights,
    "models": on_models,
    "arithmetic": arithmetic,
    "python threads": python_threads,
    "denormals": denormals,
    "start": start,
    "variants of the cell, forward": cells.forward,
    "variants of the cell, training": cells.training,
}


def measure(name):
    """Return the record of a section; what does not work here is left out with the reason."""
    record = {"title": SECTIONS[name].__doc__, "date": date.today().isoformat(), "rows": []}
    try:
        for figure in SECTIONS[name]():
            column = f" {figure['column']}" if "column" in figure else ""
            print(f"  {figure['what']}{column}: {figure['value']:.3g} {figure['unit']}", flush=True)
            record["rows"].append(figure)
    except Exception as error:  # one broken section must not cost the others
        if not isinstance(error, NotImplementedError):
            traceback.print_exc(file=sys.stdout)
        record["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        print(f"  left out: {record['failed']}", flush=True)
    nl.set_threads(None)
    return record


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sections", nargs="*", choices=[*SECTIONS, []], help=f"of {', '.join(map(repr, SECTIONS))}; default all"
    )
    parser.add_argument("--out", type=Path, help="file of results, as in peers.py")
    parser.add_argument(
        "--budget", type=float, default=ratios.BUDGET, help="seconds for a figure (default: %(default)s)"
    )
    options = parser.parse_args()
    ratios.BUDGET, path = options.budget, options.out or results.default_path()
    for name in options.sections or SECTIONS:
        print(f"{name}: {SECTIONS[name].__doc__}", flush=True)
        found = results.load(path) | {"machine": results.machine()}
        LIMITS.update(found.get("limits") or {})
        found.setdefault("variants", {})[name] = measure(name)
        results.save(path, found)
    print(f"written: {path}")
