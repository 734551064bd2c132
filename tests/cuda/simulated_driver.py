"""cuda.core and the driver as far as the package calls them, with the host's memory and the warp simulator behind them.

Everything runs at once, in the order in which it is called. What a real GPU could do in another order is found from
the streams' clocks: an access that no wait puts after the access before it is a `Race`, and so is memory that is given
back, or given to another array, while a stream may still use it.
"""

import ctypes
from bisect import bisect_right
from types import SimpleNamespace

import numpy as np
from warp_simulator import Memory, Simulator

DTYPES = {"R": None, "F": np.float32, "B": np.uint8, "I": np.int32, "U": np.uint32, "L": np.uint64}
SUCCESS = SimpleNamespace(name="CUDA_SUCCESS", __int__=lambda: 0)


class Race(AssertionError):
    """Two streams use the same memory, and nothing says which comes first."""


class OutOfMemoryError(Exception):
    pass


class Status(int):
    name = "CUDA_SUCCESS"


class Clock(dict):
    """How far each stream has come, as far as one of them knows."""

    def merge(self, other):
        for stream, time in other.items():
            self[stream] = max(self.get(stream, 0), time)

    def after(self, moment):
        stream, time = moment
        return self.get(stream, 0) >= time


class Block:
    """A piece of memory, and the moments of its latest write and of the reads after it."""

    def __init__(self, size, foreign=False):
        self.memory, self.size, self.foreign = np.full(max(size, 1), 0xFF, np.uint8), size, foreign
        self.start = self.memory.ctypes.data
        self.write, self.reads, self.freed = None, [], None


class Stream:
    def __init__(self, driver, handle, owner=None):
        self.driver, self.handle, self.owner, self.clock = driver, handle, owner, Clock()
        driver.streams[handle] = self

    def now(self):
        """Return the moment of the operation that is issued now."""
        self.clock.merge(self.driver.host)
        self.clock[self.handle] = self.clock.get(self.handle, 0) + 1
        return self.handle, self.clock[self.handle]

    def wait(self, other):
        other = self.driver.streams[other.__cuda_stream__()[1]]
        other.clock.merge(self.driver.host)
        self.clock.merge(other.clock)

    def sync(self):
        self.driver.host.merge(self.clock)

    def __cuda_stream__(self):
        return 0, self.handle


class Buffer:
    def __init__(self, driver, block, stream):
        self.driver, self.block, self.stream, self.handle = driver, block, stream, block.start

    def set_deallocation_stream(self, stream):
        self.stream = stream

    def __del__(self):
        self.driver.free(self.block, self.stream)


class Graph:
    def __init__(self, driver):
        self.driver, self.launches, self.closed = driver, [], False

    def begin_building(self):
        return self

    def end_building(self):
        return self

    def close(self):
        self.closed = True

    def complete(self):
        return self

    def launch(self, stream):
        self.driver.graphs_launched += 1
        for kernel, blocks, arguments in self.launches:
            self.driver.run(stream, kernel, blocks, arguments)


class Driver:
    """The state of a GPU, and both modules.

    Attributes
    ----------
    core, bindings : namespace
        In the place of ``cuda.core`` and ``cuda.bindings.driver``.
    launches : list of str
        Names of the kernels that ran.
    room : int
        Bytes that can still be allocated.
    """

    def __init__(self, room=1 << 30, captures=True):
        self.host, self.streams, self.live, self.pool = Clock(), {}, [], []
        self.launches, self.graphs_launched, self.room, self.captures = [], 0, room, captures
        self.problems, self.refused = [], set()
        self.core = SimpleNamespace(
            Device=lambda number: self.device, LaunchConfig=SimpleNamespace, launch=self.launch,
            LEGACY_DEFAULT_STREAM=Stream(self, 1), PER_THREAD_DEFAULT_STREAM=Stream(self, 2),
            ObjectCode=SimpleNamespace(from_cubin=lambda code: SimpleNamespace(get_kernel=self.get_kernel(code))),
        )  # fmt: skip
        self.device = SimpleNamespace(
            name="simulated GPU", set_current=lambda: None, allocate=self.allocate, create_stream=self.create_stream,
            create_graph_builder=self.create_graph_builder,
            properties=SimpleNamespace(multiprocessor_count=132, max_shared_memory_per_block_optin=232_448),
        )  # fmt: skip
        done = (Status(0),)
        self.bindings = SimpleNamespace(
            cuMemcpyHtoDAsync=lambda to, of, n, s: self.copy(to, of, n, s, writes=to) or done,
            cuMemcpyDtoHAsync=lambda to, of, n, s: self.copy(to, of, n, s, reads=of) or done,
            cuMemcpyDtoDAsync=lambda to, of, n, s: self.copy(to, of, n, s, writes=to, reads=of) or done,
            cuMemsetD8Async=self.set, cuStreamSynchronize=lambda s: self.streams[s].sync() or done,
            cuKernelSetAttribute=lambda *_: done, CUdevice=int, CUfunction_attribute=SimpleNamespace(
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED=9
            ),
        )  # fmt: skip

    # ---- streams and kernels

    def create_stream(self, named=None):
        if named is None:
            return Stream(self, 1000 + len(self.streams))
        handle = named.__cuda_stream__()[1]
        return self.streams.get(handle) or Stream(self, handle, named)

    def create_graph_builder(self):
        if not self.captures:
            raise RuntimeError("this driver does not capture")
        return Graph(self)

    def get_kernel(self, code):
        def get(entry):
            if id(code) in self.refused:
                raise RuntimeError("CUDA_ERROR_INVALID_IMAGE")
            return SimpleNamespace(kernel=code, handle=0)

        return get

    def launch(self, into, config, loaded, *arguments):
        kernel = loaded.kernel
        if isinstance(into, Graph):
            into.launches.append((kernel, config.grid, arguments))
        else:
            self.run(into, kernel, config.grid, arguments)

    def run(self, stream, kernel, blocks, arguments):
        used = []
        pointers = []
        for letter, argument in zip(kernel.arguments, arguments, strict=True):
            pointers.append(self.pointer(letter, argument, kernel, used) if letter.isupper() else argument)
        self.launches.append(kernel.name)
        Simulator(len(self.launches), 0.0).launch(kernel, blocks, *pointers)
        moment = stream.now()
        for memory in used:
            if memory.uses["write"]:
                self.written(memory.block, stream, moment)
            elif memory.uses["read"]:
                self.read(memory.block, stream, moment)

    def pointer(self, letter, address, kernel, used):
        if not address:
            return Tracked(np.empty(0), 0, None)
        block = self.block_at(address)
        dtype = np.dtype(DTYPES[letter] or kernel.constants[0])
        offset = address - block.start
        assert offset % dtype.itemsize == 0
        whole = block.memory[: block.memory.size // dtype.itemsize * dtype.itemsize].view(dtype)
        used.append(Tracked(whole, offset // dtype.itemsize, block))
        return used[-1]

    # ---- memory

    def allocate(self, size, *, stream):
        fitting = [b for b in self.pool if b.size == size and stream.clock.after(b.freed)]
        if fitting:
            block = fitting[0]
            self.pool.remove(block)
            self.ended(block, stream, "given to another array")
            block.memory[...] = 0xFF
            block.write, block.reads, block.freed = stream.now(), [], None
        else:
            if size > self.room:
                raise OutOfMemoryError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
            block = Block(size)
            block.write = stream.now()
            self.live.append(block)
            self.live.sort(key=lambda one: one.start)
        self.room -= size
        return Buffer(self, block, stream)

    def free(self, block, stream):
        self.ended(block, stream, "freed")
        block.freed = stream.now()
        self.pool.append(block)
        self.room += block.size

    def foreign(self, data, stream):
        """Return a block with an array of another library, whose values its stream has just made."""
        block = Block(data.nbytes, foreign=True)
        block.memory[: data.nbytes] = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        block.write = stream.now()
        self.live.append(block)
        self.live.sort(key=lambda one: one.start)
        return block

    def block_at(self, address):
        place = bisect_right([block.start for block in self.live], address) - 1
        block = self.live[place]
        assert 0 <= address - block.start <= block.size, "a pointer outside every array"
        assert block.freed is None, "a pointer to memory that was freed"
        return block

    def copy(self, to, of, count, handle, writes=None, reads=None):
        stream = self.streams[handle]
        moment = stream.now()
        for address, note in ((reads, self.read), (writes, self.written)):
            if address is not None:
                block = self.block_at(address)
                assert address - block.start + count <= block.size
                note(block, stream, moment)
        ctypes.memmove(to, of, count)

    def set(self, address, value, count, handle):
        stream, block = self.streams[handle], self.block_at(address)
        ctypes.memset(address, value, count)
        self.written(block, stream, stream.now())
        return (Status(0),)

    # ---- order

    def read(self, block, stream, moment):
        if block.write is not None and not stream.clock.after(block.write):
            self.problem(f"stream {stream.handle} reads what stream {block.write[0]} writes")
        block.reads.append(moment)

    def written(self, block, stream, moment):
        self.ended(block, stream, "written")
        block.write, block.reads = moment, []

    def ended(self, block, stream, what):
        """Check that all uses of a block come before what a stream does next."""
        stream.clock.merge(self.host)
        for other in [block.write, *block.reads]:
            if other is not None and not stream.clock.after(other):
                self.problem(f"memory is {what} by stream {stream.handle} while stream {other[0]} uses it")

    def problem(self, text):
        self.problems.append(text)  # also for what an exception in __del__ would hide


class Tracked(Memory):
    """A pointer argument that knows whether it was read or written through."""

    __slots__ = ("block", "uses")

    def __init__(self, array, offset, block):
        super().__init__(array, offset)
        self.block, self.uses = block, {"read": False, "write": False}

    def __getitem__(self, index):
        self.uses["read"] = True
        return super().__getitem__(index)

    def __setitem__(self, index, value):
        self.uses["write"] = True
        super().__setitem__(index, value)


class Foreign:
    """An array of another library."""

    def __init__(self, driver, data, stream=None):
        data = np.asarray(data)
        self.made_on = driver.streams[1] if stream is None else stream
        self.block = driver.foreign(data, self.made_on)
        self.shape, self.dtype = data.shape, data.dtype
        self.__cuda_array_interface__ = {
            "shape": data.shape, "typestr": data.dtype.str, "data": (self.block.start, False), "version": 3,
            "strides": None, "stream": self.made_on.handle,
        }  # fmt: skip

    @property
    def data(self):
        """The values, as the host sees them."""
        count = int(np.prod(self.shape)) * self.dtype.itemsize
        return self.block.memory[:count].view(self.dtype).reshape(self.shape)
