"""Values of one or two arrays of any strides, one by one."""

from functools import cache

from numba import cuda

from numbalstm.kernels.cuda.kernel import ELEMENTS, Kernel, device
from numbalstm.kernels.cuda.moves import THREADS


@cache
def make_elementwise(element: str, operation: str, number: float = 1.0, threads: int = THREADS) -> Kernel:
    """Return the kernel of "copy" a, "sum" a + b, "product" a b, "mean" (a + b) / 2, or "quotient" a / number.

    Arguments: a, b and the target, each followed by its strides of the three axes; sizes of the axes.
    """
    real = ELEMENTS[element]
    value = {
        "copy": device(lambda a, b: a),
        "sum": device(lambda a, b: a + b),
        "product": device(lambda a, b: a * b),
        "mean": device(lambda a, b: (a + b) * real(0.5)),
        "quotient": device(lambda a, b: a / real(number)),
    }[operation]

    def elementwise(a, a_0, a_1, a_2, b, b_0, b_1, b_2, target, t_0, t_1, t_2, size_0, size_1, size_2):
        i = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if i < size_0 * size_1 * size_2:
            k = i % size_2
            j = i // size_2 % size_1
            i = i // size_2 // size_1
            target[i * t_0 + j * t_1 + k * t_2] = value(a[i * a_0 + j * a_1 + k * a_2], b[i * b_0 + j * b_1 + k * b_2])

    name = (element, operation, number, threads)
    return Kernel("elementwise", name, elementwise, "RlllRlllRllllll", threads)


@cache
def make_mask(threads: int = THREADS) -> Kernel:
    """Return the kernel that brings a mask (B, T) of bytes, of any strides, into processing order.

    Arguments: mask and its strides of b and t; target (T, B) of 0 and 1; first counted step of each row, T where none
    counts; B, T. A thread a row.
    """

    def order_mask(mask, s_b, s_t, target, first, batch, steps):
        row = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if row < batch:
            found = steps
            for t in range(steps):
                counts = mask[row * s_b + t * s_t] != 0
                target[t * batch + row] = 1 if counts else 0
                if counts and found == steps:
                    found = t
            first[row] = found

    return Kernel("order_mask", ("float32", threads), order_mask, "BllBIll", threads)
