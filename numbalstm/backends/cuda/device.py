"""A GPU: its memory, and launches through cuda.core.

Everything runs on the legacy default stream, which is the one that CuPy and PyTorch use unless they are told otherwise.
This module and `numbalstm.backends.cuda.toolchain` are the only ones that know the compiler and launcher packages.
"""

from functools import cache, lru_cache
from typing import Any

import numpy as np

from numbalstm.backends.cuda import presence, toolchain
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import Limits
from numbalstm.backends.cuda.exchange import Exchange
from numbalstm.kernels.cuda.dot import Tile
from numbalstm.kernels.cuda.kernel import Kernel, numpy_scalars
from numbalstm.kernels.cuda.moves import THREADS
from numbalstm.kernels.cuda.options import WARPS

STATIC_SHARED = 48 * 1024  # bytes of shared memory that a block gets without being asked twice


@cache
def get(number: int = 0) -> "Device":
    """Return a GPU by its number. Only where `presence.problem` has none."""
    return Device(number)


class Device:
    """One GPU.

    Attributes
    ----------
    number : int
    name : str
    limits : Limits
    tile, threads, warps, warps_of_clusters
        Block shapes of the step kernels, of moves, of the grid kernels and of the cluster kernels.
    nothing : int
        A pointer for parameters that a kernel does not look at.
    """

    tile, threads, warps, warps_of_clusters, nothing = Tile(), THREADS, WARPS, WARPS, 0

    def __init__(self, number: int) -> None:
        import cuda.core

        self.core = cuda.core.Device(number)
        self.core.set_current()
        self.stream = self.core.default_stream
        properties = self.core.properties
        self.number, self.name = number, self.core.name
        self.limits = Limits(
            presence.capability(number), properties.multiprocessor_count, properties.max_shared_memory_per_block_optin
        )
        self._exchange, self._trouble = Exchange(), None
        self._loaded = lru_cache(maxsize=None)(self._load)

    # ---- memory

    def empty(self, shape: tuple[int, ...], element: Any) -> DeviceArray:
        """Return an array whose values are undefined."""
        dtype = np.dtype(element)
        size = max(1, int(np.prod(shape, dtype=np.int64))) * dtype.itemsize
        self.core.set_current()
        try:
            buffer = self.core.allocate(size, stream=self.stream)
        except Exception as error:
            if "OUT_OF_MEMORY" in str(error):
                raise MemoryError(
                    f"{self.name} has too little free memory for {size / 1e6:.0f} MB more: take fewer sequences or "
                    'steps at a time, or device="cpu".'
                ) from error
            raise
        return DeviceArray(int(buffer.handle), shape, dtype, self.number, buffer)

    def zeros(self, shape: tuple[int, ...], element: Any) -> DeviceArray:
        """Return an array of zeros."""
        made = self.empty(shape, element)
        made.owner.fill(0, stream=self.stream)
        return made

    def upload(self, array: Any) -> DeviceArray:
        """Return an array on this device, contiguous: itself if it is so, else a copy."""
        if isinstance(array, DeviceArray):
            return array if array.contiguous else self.upload(self.download(array))
        array = np.ascontiguousarray(array)
        made = self.empty(array.shape, array.dtype)
        if array.nbytes:
            _check(_driver().cuMemcpyHtoD(made.pointer, array.ctypes.data, array.nbytes))
        return made

    def upload_copy(self, array: Any) -> DeviceArray:
        """Return a contiguous copy on this device."""
        if not isinstance(array, DeviceArray):
            return self.upload(array)
        if not array.contiguous:
            return self.upload(array)
        made = self.empty(array.shape, array.dtype)
        _check(_driver().cuMemcpyDtoDAsync(made.pointer, array.pointer, array.nbytes, self.stream.handle))
        return made

    def fill_first(self, target: DeviceArray, state: DeviceArray | None) -> None:
        """Set target[0] to a state, None: to zeros."""
        count = target.nbytes // target.shape[0]
        driver = _driver()
        if state is None:
            _check(driver.cuMemsetD8Async(target.pointer, 0, count, self.stream.handle))
        else:
            _check(driver.cuMemcpyDtoDAsync(target.pointer, state.pointer, count, self.stream.handle))

    def item(self, array: DeviceArray, index: int) -> DeviceArray:
        """Return array[index] as an array of its own."""
        made = self.empty(array.shape[1:], array.dtype)
        start = array.pointer + index * made.nbytes
        _check(_driver().cuMemcpyDtoDAsync(made.pointer, start, made.nbytes, self.stream.handle))
        return made

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
        from cuda.core import LaunchConfig, launch

        self.core.set_current()
        loaded = self._loaded(kernel.name, kernel.constants, kernel)
        config = LaunchConfig(
            grid=blocks, block=kernel.threads, shmem_size=kernel.shared, is_cooperative=kernel.cooperative
        )
        launch(self.stream, config, loaded, *numpy_scalars(kernel, arguments))

    def _load(self, name: str, constants: tuple, kernel: Kernel) -> Any:
        from cuda.core import ObjectCode

        cubin = toolchain.built(kernel, self.limits.capability)
        loaded = ObjectCode.from_cubin(cubin.code).get_kernel(cubin.entry)
        driver = _driver()
        names, number = driver.CUfunction_attribute, driver.CUdevice(self.number)
        if kernel.shared > STATIC_SHARED:
            which = names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _check(driver.cuKernelSetAttribute(which, kernel.shared, loaded.handle, number))
        if kernel.cluster > 8:
            which = names.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
            _check(driver.cuKernelSetAttribute(which, 1, loaded.handle, number))
        return loaded

    def finish(self) -> None:
        """Wait until everything launched has finished."""
        self.core.sync()


def _driver() -> Any:
    from cuda.bindings import driver

    return driver


def _check(result: tuple) -> None:
    """Raise what the driver reports."""
    if int(result[0]) != 0:
        raise RuntimeError(f"the CUDA driver reports {result[0].name}.")
