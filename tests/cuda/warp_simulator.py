"""A simulator of CUDA for kernel sources, accurate to the warp.

Numba's own simulator has no shuffles, no intrinsics and runs one block after another. This one runs the undecorated
Python function of a kernel with one greenlet for each thread and all blocks at once, so that shuffles, tensor-core
fragments, clusters with distributed shared memory, mbarriers and hand-written exchanges between blocks are exercised.
The order of threads is drawn from a seed; with ``fair=False`` some threads and whole blocks hardly ever run, so that
others get far ahead. Shared and local memory starts as NaN, 16-byte accesses are checked for alignment, and a run in
which nobody can go on is a `Deadlock`.

It is sequentially consistent: a missing fence or acquire does not show, and it says nothing of time.
"""

import builtins
import math
import random
import types

import greenlet
import numpy as np
from numba.core.types import Number
from numba.np import numpy_support

from numbalstm.kernels.cuda import ptx

WARP = 32
PATIENCE = {True: 200, False: 1000}  # rounds without progress, by fairness


class Deadlock(RuntimeError):
    """Threads wait for something that no thread will do."""


class Dim3:
    def __init__(self, x):
        self.x, self.y, self.z = x, 1, 1


class Pointer:
    """An element of an array; of shared memory, with the block and the allocation, so that `mapa` can move it."""

    __slots__ = ("array", "block", "index", "key")

    def __init__(self, array, index, block=None, key=None):
        self.array, self.index, self.block, self.key = array, int(index), block, key


class Memory:
    """A pointer argument: an element of a device array, from where a kernel indexes, checked against its ends."""

    __slots__ = ("array", "offset")

    def __init__(self, array, offset=0):
        self.array, self.offset = array, offset

    def _place(self, index):
        place = self.offset + int(index)
        if not 0 <= place < self.array.size:
            raise IndexError(f"element {place} of a device array of {self.array.size}")
        return place

    def __getitem__(self, index):
        return self.array[self._place(index)]

    def __setitem__(self, index, value):
        self.array[self._place(index)] = value


class SharedArray(np.ndarray):
    """An allocation of shared memory, `whole`, that remembers its block."""

    block = key = whole = None  # of a part of one


class Block:
    def __init__(self, simulator, index):
        self.index, self.cluster_rank = index, index % simulator.cluster
        self.shared, self.alignment, self.barriers = {}, {}, {}


class Thread:
    def __init__(self, block, tid, speed):
        self.block, self.tid, self.lane, self.warp, self.speed = block, tid, tid % WARP, tid // WARP, speed
        self.allocations, self.copies, self.groups = 0, [], []
        self.waiting, self.done = None, False
        self.polled = None


def spinning():
    """Ready at once, but no progress: what a thread waits for in a polling loop."""
    return True


class Simulator:
    """Runs kernels.

    Parameters
    ----------
    seed : int
        Of the schedule.
    switch : float
        Chance that a thread is interrupted at a store or load that others may see.
    fair : bool
        False: a few threads and blocks are very slow.
    """

    def __init__(self, seed=0, switch=0.02, fair=True):
        self.random, self.switch, self.fair = random.Random(seed), switch, fair
        self.me = None

    def launch(self, kernel, grid, *arguments, together=True):
        """Run a `Kernel` over `grid` blocks; ``together=False`` runs them one after another."""
        from simulated_ptx import SimulatedPtx

        self.cluster, self.grid, self.threads, self.dynamic = kernel.cluster, grid, kernel.threads, kernel.shared
        self.cuda, self.ptx = SimulatedCuda(self), SimulatedPtx(self)
        function = self._bound(kernel.function, {})
        groups = [range(grid)] if together else [[index] for index in range(grid)]
        for group in groups:
            self._run([Block(self, index) for index in group], function, arguments)

    def _run(self, blocks, function, arguments):
        self.blocks = {block.index: block for block in blocks}
        self.meetings, self.progress, self.hub = {}, 0, greenlet.getcurrent()
        pending = []
        for block in blocks:
            slow_block = not self.fair and self.random.random() < 0.2
            for tid in range(self.threads):
                slow = slow_block or (not self.fair and self.random.random() < 0.01)
                pending.append(self._start(Thread(block, tid, 0.03 if slow else 1.0), function, arguments))
        idle = 0
        while pending:
            self.random.shuffle(pending)
            before = self.progress
            for thread in pending:
                if self.random.random() <= thread.speed:
                    self._resume(thread)
            pending = [thread for thread in pending if not thread.done]
            idle = idle + 1 if self.progress == before else 0
            if pending and idle > PATIENCE[self.fair]:
                first = pending[0]
                raise Deadlock(f"{len(pending)} threads stuck, thread {first.tid} of block {first.block.index} first")

    def _start(self, thread, function, arguments):
        def body():
            with np.errstate(all="ignore"):  # a greenlet has a context of its own
                function(*arguments)
            thread.done = True
            self.progress += 1

        thread.greenlet = greenlet.greenlet(body)
        return thread

    def _resume(self, thread):
        if thread.waiting is not None:
            if not thread.waiting():
                return
            self.progress += thread.waiting is not spinning
        thread.waiting, self.me = None, thread
        thread.greenlet.switch()

    def wait(self, ready):
        """Suspend the calling thread until ready() is true."""
        me = self.me
        me.waiting = ready
        self.hub.switch()
        self.me = me

    def visible(self):
        """Note an access that others may see, and perhaps let them go first."""
        self.progress += 1
        if self.switch and self.random.random() < self.switch:
            self.wait(spinning)

    def meet(self, key, count, value=None):
        """Wait until `count` threads are here with the same key; each gets {thread: value}."""
        meeting = self.meetings.setdefault(key, [{}, 0])
        generation, values = meeting[1], meeting[0]
        values[self.me] = value
        self.progress += 1
        if len(values) == count:
            meeting[0], meeting[1] = {}, generation + 1
        else:
            self.wait(lambda: meeting[1] != generation)
        return values

    # ---- a kernel's function, with everything of CUDA in it replaced

    def _bound(self, function, known):
        if function not in known:
            code, used = function.__code__, function.__globals__
            names = {name: self._swapped(used[name], known) for name in code.co_names if name in used}
            names["__builtins__"] = builtins
            cells = [types.CellType(self._swapped(cell.cell_contents, known)) for cell in function.__closure__ or ()]
            known[function] = types.FunctionType(code, names, code.co_name, function.__defaults__, tuple(cells))
        return known[function]

    def _swapped(self, value, known):
        if isinstance(value, Number):  # a type of Numba's
            return numpy_support.as_dtype(value).type
        if isinstance(value, types.ModuleType):
            if value.__name__ == "numba.cuda":
                return self.cuda
            return self.ptx if value.__name__.endswith("kernels.cuda.ptx") else value
        if isinstance(value, types.BuiltinFunctionType) and value.__module__ == "math":
            return MATH.get(value, value)
        if hasattr(value, "py_func"):
            return self._bound(value.py_func, known)
        if type(value).__name__ == "_Intrinsic":
            name = next((name for name, helper in vars(ptx).items() if helper is value), None)
            return getattr(self.ptx, name) if name else lambda: None  # a cluster's size: known from the launch
        return value


def _erf(x):
    return type(x)(math.erf(x))


MATH = {math.exp: np.exp, math.expm1: np.expm1, math.log1p: np.log1p, math.tanh: np.tanh, math.sqrt: np.sqrt}
MATH[math.erf], MATH[math.log] = _erf, np.log


class SimulatedCuda:
    """What a kernel sees as ``numba.cuda``."""

    warpsize = WARP

    def __init__(self, simulator):
        self._simulator = simulator
        self.blockDim, self.gridDim = Dim3(simulator.threads), Dim3(simulator.grid)
        self.shared = types.SimpleNamespace(array=self._shared_array)
        self.local = types.SimpleNamespace(array=self._local_array)

    threadIdx = property(lambda self: Dim3(self._simulator.me.tid))
    blockIdx = property(lambda self: Dim3(self._simulator.me.block.index))

    def _shared_array(self, shape, dtype, alignment=None):
        dtype, thread = np.dtype(dtype), self._simulator.me
        key = "dynamic" if shape == 0 else thread.allocations
        thread.allocations += 1
        block = thread.block
        block.alignment[key] = alignment or dtype.itemsize
        if key not in block.shared:
            made = np.empty(self._simulator.dynamic, np.uint8) if shape == 0 else np.empty(shape, dtype)
            made.view(np.uint8)[...] = 0xFF
            block.shared[key] = made
        whole = block.shared[key].view(dtype)
        view = whole.view(SharedArray)
        view.block, view.key, view.whole = block, key, whole
        return view

    @staticmethod
    def _local_array(shape, dtype, alignment=None):
        made = np.empty(shape, dtype)
        made.view(np.uint8)[...] = 0xFF
        return made

    def syncthreads(self):
        s = self._simulator
        s.meet(("block", s.me.block.index), s.threads)

    def syncwarp(self, mask=0xFFFFFFFF):
        self.warp(None)

    def warp(self, value):
        """Return the values of all lanes of the warp, and a place to leave what they have in common."""
        s = self._simulator
        count = min(WARP, s.threads - WARP * s.me.warp)
        values = s.meet(("warp", s.me.block.index, s.me.warp), count, value)
        if "lanes" not in values:
            values["lanes"] = {thread.lane: value for thread, value in values.items()}
        return values

    def shfl_xor_sync(self, mask, value, lane_mask):
        return self.warp(value)["lanes"][self._simulator.me.lane ^ int(lane_mask)]

    def shfl_sync(self, mask, value, lane):
        return self.warp(value)["lanes"][int(lane) & 31]
