"""A device of the CUDA backend whose memory is NumPy's and whose launches run in the warp simulator."""

import contextlib

import numpy as np
from warp_simulator import Memory, Simulator

from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import H100
from numbalstm.backends.cuda.exchange import Exchange
from numbalstm.kernels.cuda.dot import Tile
from numbalstm.kernels.cuda.kernel import Kernel

REALS = {"R": np.float32, "F": np.float32, "B": np.uint8, "I": np.int32, "U": np.uint32, "L": np.uint64}
NO_CLUSTERS = H100._replace(capability=(8, 0))  # of the whole family, clusters take longest to simulate


class SimulatedArray(DeviceArray):
    def __init__(self, data):
        self.data = data
        strides = tuple(stride // data.itemsize for stride in data.strides)
        super().__init__(0, data.shape, data.dtype, 0, data, strides)

    def at(self, offset=0):
        if not 0 <= offset <= self.data.size:
            raise IndexError(f"offset {offset} in an array of {self.data.size}")
        return Memory(self.data.reshape(-1, order="A"), offset)  # as it lies in memory


class SimulatedDevice:
    """As `numbalstm.backends.cuda.device.Device`."""

    def __init__(self, seed=0, switch=0.0, tile=Tile(4, 4, 4), threads=32, limits=NO_CLUSTERS, fair=True):  # noqa: B008
        self.number, self.tile, self.threads, self._fair = object(), tile, threads, fair
        self.warps = 1
        self.limits, self.launches, self._exchange = limits, [], Exchange()
        self.trouble = self.zeros((1,), np.int32)
        self._seed, self._switch = seed, switch
        self.nothing = Memory(np.empty(0))

    def empty(self, shape, element):
        data = np.empty(shape, element)
        data.view(np.uint8)[...] = 0xFF
        return SimulatedArray(data)

    def zeros(self, shape, element):
        return SimulatedArray(np.zeros(shape, element))

    def upload(self, array):
        if isinstance(array, SimulatedArray):
            return array
        return SimulatedArray(np.array(array, order="C"))

    keep = upload

    @contextlib.contextmanager
    def turn(self, given, kind=None):
        yield

    def replay(self, body, *arguments):
        return body(*arguments)

    def upload_copy(self, array):
        return SimulatedArray(np.array(array.data if isinstance(array, SimulatedArray) else array, order="C"))

    def fill_first(self, target, state):
        target.data[0] = 0 if state is None else state.data

    def item(self, array, index):
        return SimulatedArray(array.data[index].copy())

    def download(self, array):
        return array.data.copy()

    def exchange(self, count, steps):
        return self._exchange.take(self, count, steps)

    def check(self):
        assert not self.trouble.data[0]

    def launch(self, kernel: Kernel, blocks, *arguments):
        assert len(arguments) == len(kernel.arguments), (kernel.name, len(arguments), len(kernel.arguments))
        for letter, argument in zip(kernel.arguments, arguments, strict=True):
            if letter.isupper() and argument is not self.nothing:
                expected = kernel.constants[0] if letter == "R" else REALS[letter]
                assert argument.array.dtype == expected, (kernel.name, letter)
        self.launches.append(kernel.name)
        arguments = [
            np.uint32(argument) if letter == "u" else argument
            for letter, argument in zip(kernel.arguments, arguments, strict=True)
        ]
        self._seed += 1
        Simulator(self._seed, self._switch, self._fair).launch(kernel, blocks, *arguments)


def product_by_numpy(device, element, a, b, c, sizes, bias=None, add=False, mode="plain", like=None):
    """As `numbalstm.backends.cuda.products.product`, without a launch: where a test is not about the products."""
    m, n, k = sizes

    def matrix(operand, *shape):
        memory, strides = operand[0], [stride * operand[0].array.itemsize for stride in operand[1:]]
        return np.lib.stride_tricks.as_strided(memory.array[memory.offset :], shape, strides)

    target, value = matrix(c, m, n), matrix(a, m, k) @ matrix(b, n, k).T
    if bias is not None:
        value += matrix((bias, 1), n)
    target[...] = target + value if add else value
