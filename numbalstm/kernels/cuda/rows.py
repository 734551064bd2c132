"""Device functions of a block that has one row: sums over it, its normalisation, and activations of the whole of it.

A thread meets the units tid, tid + threads, ... of the row in every loop, and no other thread meets them: it reads
only what it wrote itself, so nothing but the sums needs a barrier. They are added in the same order every time.
"""

from math import exp, inf, log, sqrt
from typing import Any, NamedTuple

from numba import cuda

from numbalstm.kernels.cuda import activations
from numbalstm.kernels.cuda.kernel import ELEMENTS, device
from numbalstm.kernels.cuda.options import WHOLE_ROWS


@device
def add(a, b):
    return a + b


@device
def larger(a, b):
    return b if a < b else a


def make_fold(threads: int, join: Any) -> Any:
    """Return the device function that joins a value of each thread, in pairs: a power of two of them."""

    @device
    def fold(value, shared, tid):
        shared[tid] = value
        cuda.syncthreads()
        half = threads // 2
        while half > 0:
            if tid < half:
                shared[tid] = join(shared[tid], shared[tid + half])
            cuda.syncthreads()
            half //= 2
        result = shared[0]
        cuda.syncthreads()  # nobody writes the next value before everybody has read this one
        return result

    return fold


# ---- layer normalisation: of `count` units with `group` values each, one behind the other


def make_standardise(element: str, threads: int, group: int, epsilon: float) -> Any:
    """Return the device function that gives a row mean 0 and variance 1, and returns what deviations are times."""
    real, total = ELEMENTS[element], make_fold(threads, add)

    @device
    def standardise(values, at, count, shared, tid):
        part = real(0.0)
        for u in range(tid, count, threads):
            for g in range(group):
                part += values[at + group * u + g]
        mean = total(part, shared, tid) / real(group * count)
        part = real(0.0)
        for u in range(tid, count, threads):
            for g in range(group):
                deviation = values[at + group * u + g] - mean
                values[at + group * u + g] = deviation
                part += deviation * deviation
        scale = real(1.0) / sqrt(total(part, shared, tid) / real(group * count) + real(epsilon))
        for u in range(tid, count, threads):
            for g in range(group):
                values[at + group * u + g] *= scale
        return scale

    return standardise


def make_standardise_backward(element: str, threads: int, group: int) -> Any:
    """Return the device function that pulls the cotangent d of gamma * standard + beta back through `standardise`.

    The e-th value of the result goes to ``target[to + step * e]``.
    """
    real, total = ELEMENTS[element], make_fold(threads, add)

    @device
    def pull(d, at, gamma, standard, scale, count, target, to, step, shared, tid):
        part = across = real(0.0)
        for u in range(tid, count, threads):
            for g in range(group):
                e = group * u + g
                value = d[at + e] * gamma[e]
                part += value
                across += value * standard[at + e]
        mean = total(part, shared, tid) / real(group * count)
        across = total(across, shared, tid) / real(group * count)
        for u in range(tid, count, threads):
            for g in range(group):
                e = group * u + g
                target[to + step * e] = scale * (d[at + e] * gamma[e] - mean - standard[at + e] * across)

    return pull


# ---- activations


class RowActivation(NamedTuple):
    """An activation y = f(x) of a row and its pullback, as device functions.

    Both are elementwise once a few numbers of the row are known: three for y, one more for the pullback.

    Attributes
    ----------
    measure : (x, at, step, count, shared, tid) -> three numbers
    value : (x, numbers) -> y
    collect : (x, at, step, d, d_at, d_step, count, numbers, shared, tid) -> the fourth number, d being dy
    pull : (x, numbers, dy, fourth) -> dx
    """

    measure: Any
    value: Any
    collect: Any
    pull: Any


def make_row_activation(form: Any, element: str, threads: int, clip: Any) -> RowActivation:
    """Return an activation of values that are clipped when they are read; `value` and `pull` take them clipped."""
    real = ELEMENTS[element]
    if form in WHOLE_ROWS:
        return MAKERS[form](real, threads, clip)
    value, slope = activations.value(form, element), activations.slope(form, element)

    @device
    def measure(x, at, step, count, shared, tid):
        return real(0.0), real(0.0), real(0.0)

    @device
    def collect(x, at, step, d, d_at, d_step, count, numbers, shared, tid):
        return real(0.0)

    return RowActivation(
        measure,
        device(lambda x, numbers: value(x)),
        collect,
        device(lambda x, numbers, dy, fourth: dy * slope(x)),
    )


def make_collect(real: Any, threads: int, clip: Any, share: Any) -> Any:
    """Return the device function that sums share(x, numbers, dy) over a row."""
    total = make_fold(threads, add)

    @device
    def collect(x, at, step, d, d_at, d_step, count, numbers, shared, tid):
        part = real(0.0)
        for u in range(tid, count, threads):
            part += share(clip(x[at + step * u]), numbers, d[d_at + d_step * u])
        return total(part, shared, tid)

    return collect


def make_top(real: Any, threads: int, clip: Any) -> Any:
    """Return the device function of the largest value of a row."""
    largest = make_fold(threads, larger)
    lowest = -inf

    @device
    def top(x, at, step, count, shared, tid):
        found = real(lowest)
        for u in range(tid, count, threads):
            found = larger(found, clip(x[at + step * u]))
        return largest(found, shared, tid)

    return top


def make_powers(real: Any, threads: int, clip: Any) -> Any:
    """Return the device function of the largest value of a row and of the sum of e^(x - largest)."""
    top, total = make_top(real, threads, clip), make_fold(threads, add)

    @device
    def powers(x, at, step, count, shared, tid):
        largest = top(x, at, step, count, shared, tid)
        part = real(0.0)
        for u in range(tid, count, threads):
            part += exp(clip(x[at + step * u]) - largest)
        return largest, total(part, shared, tid)

    return powers


def make_softmax(real: Any, threads: int, clip: Any) -> RowActivation:
    """Numbers: the largest x and the sum of powers; sum of dy y."""
    powers = make_powers(real, threads, clip)

    @device
    def measure(x, at, step, count, shared, tid):
        largest, total = powers(x, at, step, count, shared, tid)
        return largest, total, real(0.0)

    @device
    def value(x, numbers):
        return exp(x - numbers[0]) / numbers[1]

    @device
    def share(x, numbers, dy):
        return dy * value(x, numbers)

    @device
    def pull(x, numbers, dy, fourth):
        return value(x, numbers) * (dy - fourth)

    return RowActivation(measure, value, make_collect(real, threads, clip, share), pull)


def make_log_softmax(real: Any, threads: int, clip: Any) -> RowActivation:
    """Numbers: the largest x and the logarithm of the sum of powers; sum of dy."""
    powers = make_powers(real, threads, clip)

    @device
    def measure(x, at, step, count, shared, tid):
        largest, total = powers(x, at, step, count, shared, tid)
        return largest, log(total), real(0.0)

    @device
    def value(x, numbers):
        return x - numbers[0] - numbers[1]

    @device
    def share(x, numbers, dy):
        return dy

    @device
    def pull(x, numbers, dy, fourth):
        return dy - exp(value(x, numbers)) * fourth

    return RowActivation(measure, value, make_collect(real, threads, clip, share), pull)


def make_sparsemax(real: Any, threads: int, clip: Any) -> RowActivation:
    """Numbers: the largest x, the threshold below it, how many x lie above that; mean of dy where they do.

    The threshold is the one at which what lies above adds up to 1, so it is no lower than -1; it only grows when it is
    computed anew from the x above the threshold before (Michelot 1986), until none of these falls below.
    """
    top, total = make_top(real, threads, clip), make_fold(threads, add)

    @device
    def measure(x, at, step, count, shared, tid):
        largest = top(x, at, step, count, shared, tid)
        threshold, above = real(-1.0), real(count) + real(1.0)
        while True:
            part = number = real(0.0)
            for u in range(tid, count, threads):
                below = clip(x[at + step * u]) - largest
                if not below <= threshold:  # NaN counts, and makes the threshold NaN
                    part += below
                    number += real(1.0)
            number = total(number, shared, tid)
            if not number < above:
                break
            threshold, above = (total(part, shared, tid) - real(1.0)) / number, number
        return largest, threshold, above

    @device
    def value(x, numbers):
        y = (x - numbers[0]) - numbers[1]
        return real(0.0) if y <= real(0.0) else y

    @device
    def support(x, numbers):
        y = value(x, numbers)
        return real(1.0) if y > real(0.0) else y

    @device
    def share(x, numbers, dy):
        return support(x, numbers) * dy / numbers[2]

    @device
    def pull(x, numbers, dy, fourth):
        return support(x, numbers) * (dy - fourth)

    return RowActivation(measure, value, make_collect(real, threads, clip, share), pull)


MAKERS = {"softmax": make_softmax, "log_softmax": make_log_softmax, "sparsemax": make_sparsemax}
