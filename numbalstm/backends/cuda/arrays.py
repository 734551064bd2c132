"""Arrays on a GPU: ours, and those of other libraries through ``__cuda_array_interface__`` or DLPack."""

from typing import Any

import numpy as np

LEGACY_STREAM = 1  # the default stream, as the array interface numbers it
CUDA_DEVICES = (2, 13)  # DLPack's numbers of CUDA memory and of managed memory


class DeviceArray:
    """An array in a GPU's memory.

    CuPy, PyTorch, Numba and everything else that knows ``__cuda_array_interface__`` take it without a copy.

    Attributes
    ----------
    pointer : int
    shape : tuple of int
    dtype : numpy.dtype
    device : int
        Number of the GPU.
    owner : object
        Keeps the memory.
    strides : tuple of int
        In elements.
    """

    def __init__(
        self,
        pointer: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        device: int,
        owner: Any,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        self.pointer, self.shape, self.dtype = pointer, tuple(shape), np.dtype(dtype)
        self.device, self.owner = device, owner
        self.strides = contiguous_strides(self.shape) if strides is None else tuple(strides)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one behind the other, the last axis fastest."""
        return self.size == 0 or all(
            n == 1 or have == want
            for n, have, want in zip(self.shape, self.strides, contiguous_strides(self.shape), strict=True)
        )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self.contiguous else tuple(stride * self.dtype.itemsize for stride in self.strides)
        data = (self.pointer if self.size else 0, False)
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": data, "version": 3, "strides": strides,
            "stream": LEGACY_STREAM,
        }  # fmt: skip

    def __len__(self) -> int:
        return self.shape[0]

    def at(self, offset: int = 0) -> int:
        """Return the pointer to an element, counted from the first."""
        return self.pointer + offset * self.dtype.itemsize

    def copy_to_host(self) -> np.ndarray:
        """Return a NumPy copy, when everything launched before has finished."""
        from cuda.bindings import driver

        low = sum(min(0, (n - 1) * stride) for n, stride in zip(self.shape, self.strides, strict=True))
        high = sum(max(0, (n - 1) * stride) for n, stride in zip(self.shape, self.strides, strict=True))
        if self.size == 0:
            return np.empty(self.shape, self.dtype)
        memory = np.empty(high - low + 1, self.dtype)
        (error,) = driver.cuMemcpyDtoH(memory.ctypes.data, self.at(low), memory.nbytes)
        if int(error) != 0:
            raise RuntimeError(f"the CUDA driver reports {error.name}.")
        steps = tuple(stride * self.dtype.itemsize for stride in self.strides)
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(memory[-low:], self.shape, steps))

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device})"


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a contiguous array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(1, n)
    return tuple(reversed(strides))


def on_gpu(x: Any) -> bool:
    """Whether an object is an array in a GPU's memory."""
    if isinstance(x, np.ndarray | list | tuple):
        return False
    if hasattr(x, "__cuda_array_interface__"):
        return True
    try:
        return x.__dlpack_device__()[0] in CUDA_DEVICES
    except (AttributeError, TypeError):
        return False


def view(where: str, name: str, x: Any, dtype: np.dtype) -> DeviceArray:
    """Return an array of another library as a `DeviceArray`, without a copy and in the order of streams.

    Raises
    ------
    ValueError
        When it has another dtype, a mask, or strides that are no whole elements.
    """
    if isinstance(x, DeviceArray):
        found = x
    elif hasattr(x, "__cuda_array_interface__"):
        found = _from_interface(where, name, x)
    else:
        found = _from_dlpack(x)
    if found.dtype != dtype:
        raise ValueError(f"{where}: {name} on the GPU must have dtype {dtype}, got {found.dtype}. Convert it there.")
    return found


def to_host(x: Any) -> np.ndarray:
    """Return a NumPy copy of an array on a GPU."""
    found = x if isinstance(x, DeviceArray) else None
    if found is None:
        found = _from_interface("to_host", "array", x) if hasattr(x, "__cuda_array_interface__") else _from_dlpack(x)
    return found.copy_to_host()


def _from_interface(where: str, name: str, x: Any) -> DeviceArray:
    interface = x.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise ValueError(f"{where}: {name} must not have a mask of its own: it would be lost. Pass mask= instead.")
    dtype, shape = np.dtype(interface["typestr"]), tuple(interface["shape"])
    strides = interface.get("strides")
    if strides is not None:
        if any(stride % dtype.itemsize for stride in strides):
            raise ValueError(f"{where}: {name} must have strides of whole elements, got {strides} bytes.")
        strides = tuple(stride // dtype.itemsize for stride in strides)
    stream = interface.get("stream")
    if stream not in (None, LEGACY_STREAM):
        _wait_for(stream)
    pointer = interface["data"][0] or 0
    return DeviceArray(pointer, shape, dtype, _device_of(pointer), x, strides)


def _from_dlpack(x: Any) -> DeviceArray:
    from cuda.core.utils import StridedMemoryView

    found = StridedMemoryView.from_dlpack(x, stream_ptr=LEGACY_STREAM)
    return DeviceArray(found.ptr, tuple(found.shape), found.dtype, found.device_id, found, found.strides)


def _wait_for(stream: int) -> None:
    """Let the default stream wait for what is in a stream now."""
    from cuda.core import LEGACY_DEFAULT_STREAM, Stream

    LEGACY_DEFAULT_STREAM.wait(Stream.from_handle(stream))


def _device_of(pointer: int) -> int:
    from cuda.bindings import driver

    which = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, number = driver.cuPointerGetAttribute(which, pointer)
    return int(number) if int(error) == 0 else 0
