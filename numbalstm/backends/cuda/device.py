"""A GPU: its memory, its streams, and launches through cuda.core.

A `Device` is one GPU as seen from one stream: what it allocates, copies and launches follows in the order of that
stream. `Card` holds what the streams of one GPU share. This module and `numbalstm.backends.cuda.toolchain` are the only
ones that know the compiler and launcher packages.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from numbalstm.backends.cuda import elementwise, presence, streams, toolchain
from numbalstm.backends.cuda.arrays import LEGACY_STREAM, DeviceArray, check
from numbalstm.backends.cuda.choice import Limits
from numbalstm.backends.cuda.exchange import Exchange
from numbalstm.backends.cuda.replay import Graphs, Slots
from numbalstm.backends.interface import DeviceUnavailableError
from numbalstm.kernels.cuda.dot import Tile
from numbalstm.kernels.cuda.kernel import Kernel, numpy_scalars
from numbalstm.kernels.cuda.moves import THREADS
from numbalstm.kernels.cuda.options import WARPS

STATIC_SHARED = 48 * 1024  # bytes of shared memory that a block gets without being asked twice
STREAMS = 32  # most streams of callers that a card remembers
OUT_OF_MEMORY = "OUT_OF_MEMORY"


@cache
def card(number: int) -> "Card":
    """Return a GPU by its number. Only where `presence.problem` has none."""
    return Card(number)


def get(number: int = 0, stream: Any = None) -> "Device":
    """Return a GPU as seen from a stream: its handle, or a `streams.Named`; None: the default stream."""
    return card(number).seen_from(stream)


class Card:
    """What all streams of one GPU share: its limits, the kernels loaded, and the stream that weights are kept on."""

    def __init__(self, number: int) -> None:
        self.core = _core().Device(number)
        self.core.set_current()
        properties = self.core.properties
        self.number, self.name = number, self.core.name
        self.limits = Limits(
            presence.capability(number), properties.multiprocessor_count, properties.max_shared_memory_per_block_optin
        )
        too_old = presence.age_problem(number)
        if too_old is not None:
            raise DeviceUnavailableError(f"GPU {number}: {too_old}")
        self.lock = threading.RLock()
        self.graphs = True  # until the driver refuses one
        self._seen: OrderedDict[int, Device] = OrderedDict()
        self._kernels: dict[Kernel, Any] = {}
        self.store, self.side = (Device(self, self.core.create_stream()) for _ in range(2))

    def seen_from(self, stream: Any) -> "Device":
        """Return this GPU as seen from a stream."""
        named = stream if isinstance(stream, streams.Named) else streams.Named(stream or LEGACY_STREAM, None)
        for own in (self.store, self.side):
            if own.handle == named.handle:
                return own
        with self.lock:
            found = self._seen.get(named.handle)
            if found is None:
                found = self._seen[named.handle] = Device(self, self._stream(named))
                if len(self._seen) > STREAMS:
                    self._seen.popitem(last=False)
            self._seen.move_to_end(named.handle)
        return found

    def _stream(self, named: streams.Named) -> Any:
        known = {LEGACY_STREAM: "LEGACY_DEFAULT_STREAM", 2: "PER_THREAD_DEFAULT_STREAM"}
        if named.handle in known:
            return getattr(_core(), known[named.handle])
        self.core.set_current()
        return self.core.create_stream(named)  # keeps the caller's stream alive

    def kernel(self, kernel: Kernel) -> Any:
        """Return a kernel, compiled or read from the disk, and loaded, at its first use."""
        key = kernel._replace(function=None)  # a factory makes a new function each time; its constants decide
        with self.lock:
            if key not in self._kernels:
                self._kernels[key] = self._load(kernel)
            return self._kernels[key]

    def _load(self, kernel: Kernel) -> Any:
        cubin = toolchain.built(kernel, self.limits.capability)
        try:
            loaded = _core().ObjectCode.from_cubin(cubin.code).get_kernel(cubin.entry)
        except Exception:  # the driver does not take what was on the disk
            cubin = toolchain.rebuilt(kernel, self.limits.capability)
            loaded = _core().ObjectCode.from_cubin(cubin.code).get_kernel(cubin.entry)
        driver = _driver()
        names, number = driver.CUfunction_attribute, driver.CUdevice(self.number)
        if kernel.shared > STATIC_SHARED:
            which = names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            check(driver.cuKernelSetAttribute(which, kernel.shared, loaded.handle, number))
        if kernel.cluster > 8:
            which = names.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
            check(driver.cuKernelSetAttribute(which, 1, loaded.handle, number))
        return loaded


class Device:
    """One GPU, seen from one stream.

    Attributes
    ----------
    card : Card
    number : int
    name : str
    limits : Limits
    stream : cuda.core.Stream
    handle : int
        Of the stream.
    tile, threads, warps
        Block shapes of the step kernels, of moves and of the grid kernels.
    nothing : int
        A pointer for parameters that a kernel does not look at.
    """

    tile, threads, warps, nothing = Tile(), THREADS, WARPS, 0

    def __init__(self, card: Card, stream: Any) -> None:
        self.card, self.stream, self.handle = card, stream, int(stream.handle)
        self.core, self.number, self.name, self.limits = card.core, card.number, card.name, card.limits
        self._lock, self._into = threading.RLock(), stream
        self._exchange, self._trouble = Exchange(), None
        self._graphs, self._slots = Graphs(), Slots()

    # ---- order

    @contextmanager
    def turn(self, given: Iterable[Any], kind: Any = None) -> Iterator[None]:
        """Queue something that reads or writes the given arrays: after what their streams hold now, before what comes.

        With a kind, arrays made meanwhile get the memory that those of the turn of this kind before had, where it is
        free again, so that graphs of launches fit once more.
        """
        with self._lock:
            self.core.set_current()
            others = {a.stream for a in given if isinstance(a, DeviceArray)} - {None, self.handle}
            guests = [self.card.seen_from(handle).stream for handle in others]
            for guest in guests:
                self.stream.wait(guest)
            with self._slots.of(kind):
                yield
            for guest in guests:
                guest.wait(self.stream)  # what is freed or written there is so after our reading
            if self is not self.card.store:
                self.card.store.stream.wait(self.stream)  # weights are freed there

    def forked(self, given: Iterable[Any]) -> "Device":
        """Return the GPU as seen from a stream beside this one, which starts when the given arrays are there."""
        with self.turn(given):
            self.card.side.stream.wait(self.stream)
        return self.card.side

    def adopt(self, array: Any) -> Any:
        """Make an array that another stream computes one of this stream, and return it."""
        if isinstance(array, DeviceArray) and array.stream not in (None, self.handle):
            self.stream.wait(self.card.seen_from(array.stream).stream)
            owner = array
            while isinstance(owner, DeviceArray):  # a view, and what it is a view of
                owner.stream, owner = self.handle, owner.owner
            if hasattr(owner, "set_deallocation_stream"):
                owner.set_deallocation_stream(self.stream)
        return array

    # ---- memory

    def empty(self, shape: tuple[int, ...], element: Any) -> DeviceArray:
        """Return an array whose values are undefined."""
        dtype = np.dtype(element)
        size = max(1, math.prod(shape)) * dtype.itemsize
        buffer = self._slots.take(size) or self._allocated(size)
        made = DeviceArray(int(buffer.handle), shape, dtype, self.number, buffer, stream=self.handle)
        self._slots.note(size, made)
        self._graphs.note(made)
        return made

    def _allocated(self, size: int) -> Any:
        self.core.set_current()
        try:
            return self.core.allocate(size, stream=self.stream)
        except Exception as error:
            if OUT_OF_MEMORY not in str(error):
                raise
        self.forget()
        try:
            return self.core.allocate(size, stream=self.stream)
        except Exception as error:
            if OUT_OF_MEMORY not in str(error):
                raise
            raise MemoryError(
                f"{self.name} has too little free memory for {size / 1e6:.0f} MB more: take fewer sequences or "
                'steps at a time, or device="cpu".'
            ) from error

    def forget(self) -> None:
        """Give up the memory that is kept for later passes."""
        self._graphs, self._slots = self._graphs.cleared(), self._slots.cleared()
        self.stream.sync()  # what was freed is free only when the stream has come so far

    def zeros(self, shape: tuple[int, ...], element: Any) -> DeviceArray:
        """Return an array of zeros."""
        made = self.empty(shape, element)
        self._clear(made)
        return made

    def _clear(self, array: DeviceArray) -> None:
        self._only_launches()
        if array.nbytes:
            check(_driver().cuMemsetD8Async(array.pointer, 0, array.nbytes, self.handle))

    def _only_launches(self) -> None:
        if self._into is not self.stream:
            raise NotImplementedError("a graph of launches holds no copies")

    def upload(self, array: Any) -> DeviceArray:
        """Return an array on this device, contiguous: itself if it is so, else a copy."""
        if isinstance(array, DeviceArray):
            return array if array.contiguous else elementwise.compute(self, "copy", array, array)
        array = np.ascontiguousarray(array)
        made = self.empty(array.shape, array.dtype)
        self.write(made, array)
        return made

    def upload_copy(self, array: Any) -> DeviceArray:
        """Return a contiguous copy on this device."""
        if not isinstance(array, DeviceArray) or not array.contiguous:
            return self.upload(array)
        made = self.empty(array.shape, array.dtype)
        self.write(made, array)
        return made

    def write(self, target: DeviceArray, source: Any) -> None:
        """Copy a contiguous array of this device or of the host into one of the same size and type."""
        self._only_launches()
        if not target.nbytes:
            return
        if isinstance(source, DeviceArray):
            check(_driver().cuMemcpyDtoDAsync(target.pointer, source.pointer, target.nbytes, self.handle))
        else:
            check(_driver().cuMemcpyHtoDAsync(target.pointer, source.ctypes.data, target.nbytes, self.handle))

    def keep(self, array: Any) -> DeviceArray:
        """Return a copy of an array of the host that every stream may read: for weights, uploaded once."""
        store = self.card.store
        with store.turn(()):
            made = store.upload(array)
        made.stream = None
        store.finish()
        return made

    def fill_first(self, target: DeviceArray, state: DeviceArray | None) -> None:
        """Set target[0] to a state, None: to zeros."""
        first = target[0]
        if state is None:
            self._clear(first)
        else:
            self.write(first, state)

    def item(self, array: DeviceArray, index: int) -> DeviceArray:
        """Return array[index] as an array of its own."""
        return self.upload_copy(array[index])

    def download(self, array: DeviceArray) -> np.ndarray:
        """Return a copy in the host's memory, when all launches before have finished."""
        return array.copy_to_host()

    def exchange(self, count: int, steps: int) -> tuple[int, int]:
        """Return a buffer of words for a launch that exchanges values between blocks, and its first tag."""
        return self._exchange.take(self, count, steps)

    @property
    def trouble(self) -> DeviceArray:
        """The word that a kernel sets when it has waited for another block in vain."""
        if self._trouble is None:
            self._trouble = self.zeros((1,), np.int32)
        return self._trouble

    def check(self) -> None:
        """Raise RuntimeError when a kernel had waited in vain: its results are wrong."""
        if self._trouble is not None and self.download(self._trouble)[0]:
            self._trouble = None
            raise RuntimeError(
                f"{self.name}: blocks of a kernel waited for each other in vain, and its results were dropped. "
                'Take numbalstm.set_gpu(kernel="step"), which needs no such waiting, and report this.'
            )

    # ---- launches

    def launch(self, kernel: Kernel, blocks: int, *arguments: Any) -> None:
        """Launch a kernel, compiled or loaded from the disk at its first use, over `blocks` blocks."""
        self.core.set_current()
        config = _core().LaunchConfig(
            grid=blocks, block=kernel.threads, shmem_size=kernel.shared, is_cooperative=kernel.cooperative
        )
        _core().launch(self._into, config, self.card.kernel(kernel), *numpy_scalars(kernel, arguments))

    def replay(self, body: Any, *arguments: Any) -> Any:
        """Return ``body(*arguments)``, which only launches and makes arrays; when it comes again, by a graph."""
        return self._graphs.run(self, body, arguments) if self.card.graphs else body(*arguments)

    @property
    def replayed(self) -> int:
        """How often a graph was launched in the place of single launches."""
        return self._graphs.replayed

    @contextmanager
    def capturing(self) -> Iterator[Any]:
        """Collect launches in a graph builder instead of running them."""
        builder = self.core.create_graph_builder().begin_building()
        self._into = builder
        try:
            yield builder
            builder.end_building()
        except BaseException:
            builder.close()
            raise
        finally:
            self._into = self.stream

    def finish(self) -> None:
        """Wait until everything launched on this stream has finished."""
        self.stream.sync()


def _core() -> Any:
    import cuda.core

    return cuda.core


def _driver() -> Any:
    from cuda.bindings import driver

    return driver
