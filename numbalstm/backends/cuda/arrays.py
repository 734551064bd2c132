"""Arrays on a GPU: ours, and those of other libraries through ``__cuda_array_interface__`` or DLPack."""

import math
from collections.abc import Sequence
from typing import Any, NoReturn

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
    stream : int or None
        The stream on which its values are made; None: they are there.
    writeable : bool
    """

    def __init__(
        self,
        pointer: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        device: int,
        owner: Any,
        strides: tuple[int, ...] | None = None,
        stream: int | None = LEGACY_STREAM,
        writeable: bool = True,
    ) -> None:
        self.pointer, self.shape, self.dtype = pointer, tuple(shape), np.dtype(dtype)
        self.device, self.owner = device, owner
        self.strides = contiguous_strides(self.shape) if strides is None else tuple(strides)
        self.stream, self.writeable = stream, writeable

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

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
        data = (self.pointer if self.size else 0, not self.writeable)
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": data, "version": 3, "strides": strides,
            "stream": self.stream,
        }  # fmt: skip

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("an array on a GPU does not become a NumPy array by itself: call its copy_to_host().")

    def __len__(self) -> int:
        return self.shape[0]

    def at(self, offset: int = 0) -> Any:
        """Return the pointer to an element, counted from the first."""
        return self.pointer + offset * self.dtype.itemsize

    # Views

    def _view(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> "DeviceArray":
        pointer = self.pointer + offset * self.dtype.itemsize
        return DeviceArray(pointer, shape, self.dtype, self.device, self, strides, self.stream, self.writeable)

    def __getitem__(self, key: Any) -> "DeviceArray":
        """Return a view; the key holds integers, slices and at most one ellipsis."""
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys = keys[:at] + (slice(None),) * (self.ndim - len(keys) + 1) + keys[at + 1 :]
        if len(keys) > self.ndim or not all(isinstance(one, int | slice) for one in keys):
            raise IndexError(f"an array on a GPU takes integers, slices and an ellipsis as index, got {key!r}.")
        offset, shape, strides = 0, [], []
        keys += (slice(None),) * (self.ndim - len(keys))
        for one, size, stride in zip(keys, self.shape, self.strides, strict=True):
            if isinstance(one, int):
                if not -size <= one < size:
                    raise IndexError(f"index {one} is outside an axis of size {size}.")
                offset += one % size * stride
            else:
                steps = range(size)[one]
                offset += steps.start * stride if steps else 0
                shape.append(len(steps))
                strides.append(steps.step * stride)
        return self._view(offset, tuple(shape), tuple(strides))

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write numbers of the host, or an array of the GPU, into a view."""
        from numbalstm.backends.cuda import device, elementwise

        target, where = self[key], device.get(self.device, self.stream)
        if not isinstance(value, DeviceArray):
            value = where.upload(np.broadcast_to(np.asarray(value, self.dtype), target.shape))
        elementwise.write(where, "copy", value, value, target)

    def swapaxes(self, first: int, second: int) -> "DeviceArray":
        """Return a view with two axes exchanged."""
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self._view(0, tuple(self.shape[i] for i in order), tuple(self.strides[i] for i in order))

    @property
    def T(self) -> "DeviceArray":
        """A view with the axes in reverse order."""
        return self._view(0, self.shape[::-1], self.strides[::-1])

    # Arithmetic, as far as joining directions and gradients takes it

    def __add__(self, other: "DeviceArray") -> "DeviceArray":
        return self._computed("sum", other)

    def __mul__(self, other: Any) -> "DeviceArray":
        return self._computed("product", other)

    def __truediv__(self, divisor: float) -> "DeviceArray":
        return self._computed("quotient", self, float(divisor))

    def copy(self) -> "DeviceArray":
        """Return a contiguous copy on the GPU."""
        return self._computed("copy", self)

    def _computed(self, operation: str, other: Any, number: float = 1.0) -> "DeviceArray":
        from numbalstm.backends.cuda import device, elementwise

        return elementwise.compute(device.get(self.device, self.stream), operation, self, other, number)

    def copy_to_host(self) -> np.ndarray:
        """Return a NumPy copy, when everything launched before on its stream has finished."""
        if self.size == 0:
            return np.empty(self.shape, self.dtype)
        low = sum(min(0, (n - 1) * stride) for n, stride in zip(self.shape, self.strides, strict=True))
        high = sum(max(0, (n - 1) * stride) for n, stride in zip(self.shape, self.strides, strict=True))
        memory = np.empty(high - low + 1, self.dtype)
        stream = LEGACY_STREAM if self.stream is None else self.stream
        driver, begin = _driver(), self.pointer + low * self.dtype.itemsize
        check(driver.cuMemcpyDtoHAsync(memory.ctypes.data, begin, memory.nbytes, stream))
        check(driver.cuStreamSynchronize(stream))
        steps = tuple(stride * self.dtype.itemsize for stride in self.strides)
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(memory[-low:], self.shape, steps))

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device})"


ARRAYS = (np.ndarray, DeviceArray)


def check(result: tuple) -> None:
    """Raise what the driver reports."""
    if int(result[0]) != 0:
        raise RuntimeError(f"the CUDA driver reports {result[0].name}.")


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


def view(where: str, name: str, x: Any, dtype: np.dtype | None) -> DeviceArray:
    """Return an array of another library as a `DeviceArray`, without a copy; `dtype` None: of any type.

    Raises
    ------
    ValueError
        When it has another dtype, a mask, or strides that are no whole elements.
    """
    if isinstance(x, DeviceArray):
        found = x
    elif _orders_itself(x):
        found = _from_dlpack(x)
    else:
        found = _from_interface(where, name, x)
    if dtype is not None and found.dtype != dtype:
        raise ValueError(f"{where}: {name} on the GPU must have dtype {dtype}, got {found.dtype}. Convert it there.")
    return found


def to_host(x: Any) -> np.ndarray:
    """Return a NumPy copy of an array on a GPU."""
    return view("to_host", "array", x, None).copy_to_host()


def on_host(array: Any) -> np.ndarray:
    """Return an array of the host: a copy of one that lies on a GPU."""
    return array.copy_to_host() if isinstance(array, DeviceArray) else np.asarray(array)


def overlap(one: DeviceArray, other: DeviceArray) -> bool:
    """Whether the memory between the first and the last element of two arrays meets."""
    (low, high), (other_low, other_high) = _extent(one), _extent(other)
    return one.device == other.device and low < other_high and other_low < high


def _extent(array: DeviceArray) -> tuple[int, int]:
    if not array.size:
        return 0, 0
    ends = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low, high = sum(min(0, end) for end in ends), sum(max(0, end) for end in ends) + 1
    return array.pointer + low * array.dtype.itemsize, array.pointer + high * array.dtype.itemsize


def _orders_itself(x: Any) -> bool:
    """Whether DLPack serves an array better: its interface, of a version before 3, does not name its stream."""
    interface = getattr(x, "__cuda_array_interface__", None)
    return interface is None or (interface.get("version", 0) < 3 and hasattr(x, "__dlpack__"))


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
    pointer, read_only = interface["data"]
    pointer = pointer or 0
    stream = interface.get("stream")
    return DeviceArray(pointer, shape, dtype, _device_of(pointer), x, strides, stream, not read_only)


def _from_dlpack(x: Any) -> DeviceArray:
    """Return a view after whose making the default stream waits for the array's values."""
    from cuda.core.utils import StridedMemoryView

    found = StridedMemoryView.from_dlpack(x, stream_ptr=LEGACY_STREAM)
    strides: Sequence[int] | None = found.strides
    return DeviceArray(
        found.ptr, tuple(found.shape), found.dtype, found.device_id, found, strides, LEGACY_STREAM, not found.readonly
    )


def _device_of(pointer: int) -> int:
    driver = _driver()
    which = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, number = driver.cuPointerGetAttribute(which, pointer)
    return int(number) if int(error) == 0 else 0


def _driver() -> Any:
    from cuda.bindings import driver

    return driver
