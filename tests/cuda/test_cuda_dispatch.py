"""What goes to a GPU and what is said when there is none: nothing here needs the CUDA packages."""

import ctypes
import re
from importlib import util
from types import SimpleNamespace

import numpy as np
import pytest
from support.cases import make_parameters
from support.requests import request as make_request

import numbalstm as nl
from numbalstm import doctor
from numbalstm.backends.cuda import arrays, choice, dispatch, presence
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.problem import settle, unsupported
from numbalstm.backends.cuda.tile_sizes import tiles
from numbalstm.backends.interface import DeviceUnavailableError, Variant
from numbalstm.functional import lstm_forward
from numbalstm.kernels.cuda.options import Options
from numbalstm.parameters import LSTMParameters


@pytest.mark.skipif(
    util.find_spec("numba_cuda") is not None and util.find_spec("greenlet") is not None, reason="they run here"
)
def test_the_kernels_are_not_tested_here():
    pytest.skip('the CUDA kernels are not tested here: pip install "numbalstm[cuda-test]"')


@pytest.fixture
def parameters(rng):
    return make_parameters(rng, 3, 5)


@pytest.fixture
def fresh(monkeypatch):
    """Ask anew whether there is a GPU, before and after."""
    presence.problem.cache_clear()
    yield monkeypatch
    presence.problem.cache_clear()


def missing(*names):
    return lambda name: None if name in names else SimpleNamespace()


def no_library(name):
    raise OSError(name)


@pytest.mark.parametrize(
    ("driver", "absent", "compilers", "message"),
    [
        (no_library, (), True, r"no NVIDIA driver \(\S+ was not found\)\. Install"),
        (str, ("numba_cuda",), True, r"numba-cuda is not installed .*deprecated.*numbalstm\[cuda13\]"),
        (str, ("cuda",), True, r"cuda-core is not installed: .*numbalstm\[cuda13\].*numbalstm\[cuda12\]"),
        (str, (), False, r"CUDA compiler are not installed: pip install"),
    ],
)
def test_each_reason_says_what_to_do(fresh, parameters, driver, absent, compilers, message):
    fresh.setattr(ctypes, "CDLL", driver)
    fresh.setattr(presence.util, "find_spec", missing(*absent))
    fresh.setattr(presence, "_installed", lambda package: compilers)
    fresh.delenv("CUDA_HOME", raising=False)
    x = np.zeros((2, 6, 3))
    with pytest.raises(DeviceUnavailableError, match=r'^lstm_forward: device="cuda" was asked for.*' + message):
        lstm_forward(x, parameters, device="cuda")
    with pytest.raises(DeviceUnavailableError, match=message):
        lstm_forward(x, parameters, device="cuda", tape=True)
    assert lstm_forward(x, parameters, device="auto").outputs.shape == (2, 6, 5)
    told = doctor.examine()["GPU"]
    assert told["CUDA device"] == "none in use"
    assert told["because"] == presence.problem()


@pytest.mark.parametrize(
    ("start", "count", "capability", "message"),
    [
        (SimpleNamespace(name="CUDA_ERROR_UNKNOWN"), 1, (9, 0), "does not start .CUDA_ERROR_UNKNOWN."),
        (0, 0, (9, 0), "sees no GPU"),
        (0, 1, (7, 5), r"compute capability 7\.5 and the kernels need 8\.0"),
        (0, 1, (8, 0), None),
    ],
)
def test_reasons_of_the_device(fresh, start, count, capability, message):
    bindings = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")

    class Error(int):
        name = getattr(start, "name", "")

    fresh.setattr(bindings, "cuInit", lambda flags: (Error(start != 0),))
    fresh.setattr(bindings, "cuDeviceGetCount", lambda: (0, count))
    fresh.setattr(presence, "capability", lambda number: capability)
    found = presence._device_problem()
    assert (found is None) if message is None else re.search(message, found)


def test_where_a_request_goes(rng, parameters, monkeypatch):
    x = rng.normal(size=(2, 6, 3))
    request = make_request(x, parameters)
    monkeypatch.setattr(presence, "problem", lambda: None)
    assert dispatch.work(request) == 2 * 6 * 4 * 5 * 8
    assert dispatch.work(make_request([x[0], x[0, :2]], parameters)) == 8 * 4 * 5 * 8
    assert not dispatch.takes("f", "auto", request)
    assert not dispatch.takes("f", "cpu", request)
    assert dispatch.takes("f", "cuda", request)
    monkeypatch.setattr(dispatch, "WORTH_IT", 2 * 6 * 4 * 5 * 8)
    assert dispatch.takes("f", "auto", request)
    unknown = request._replace(activation=nl.activations.get(np.sin))
    assert not dispatch.takes("f", "auto", unknown)
    refused = r"f: no CUDA kernel covers the activation 'sin', a Python function: .*device=.cpu."
    with pytest.raises(ValueError, match=refused):
        dispatch.takes("f", "cuda", unknown)
    there = request._replace(x=DeviceArray(64, x.shape, x.dtype, 0, None))
    assert dispatch.takes("f", "auto", there)
    with pytest.raises(ValueError, match="f: inputs lie on a GPU"):
        dispatch.takes("f", "cpu", there)
    with pytest.raises(ValueError, match="f: initial_state or dropout_masks lie on a GPU, inputs do not"):
        dispatch.takes("f", "auto", request._replace(initial_state=(there.x, there.x)))


def test_what_no_kernel_serves(rng):
    everything = make_parameters(rng, 3, 5, peephole=True, projection=2, norm=True)
    numbers = nl.activations.onnx("Affine", 0.5, 0.1)
    request = make_request(
        rng.normal(size=(2, 6, 3)), everything, activation=nl.activations.get("softmax"),
        variant=Variant(zoneout=(0.5, None), activations=(numbers, *map(nl.activations.get, ["sparsemax"] * 4))),
    )  # fmt: skip
    assert unsupported(request) is None

    def softmax(x):
        return x

    assert "'softmax', a Python function" in unsupported(
        request._replace(variant=Variant(), activation=nl.activations.get(softmax))
    )


def test_the_choice_follows_from_sizes_options_mode_and_device():
    options = Options("float32", masked=True)
    small = choice.Limits((8, 0), 108, 166_912)

    def forward(batch, units, limits=choice.H100, kernel="auto", **changes):
        return choice.choose(options._replace(**changes), batch, units, "fp32", kernel, limits)

    assert forward(8, 1024)[1:3] == ("grid", "grid")
    assert forward(1, 1, small)[1] == "grid"
    assert forward(1, 1)[1:3] == ("cluster", "cluster")
    assert forward(1, 1024, kernel="step")[1] == "step"
    for found, reason in (
        (forward(9, 64, kernel="grid"), "9 is more than the 8 rows"),
        (forward(1, 1025, kernel="grid"), "1025 units are more than the 1024"),
        (forward(1, 1024, small, kernel="grid"), "128 blocks do not fit on 108 multiprocessors"),
        (forward(1, 64, kernel="grid", zoneout=(True, False)), "no zoneout"),
        (forward(1, 64, projection=True), "no projection"),
        (forward(1, 257, factors=4), "factors of its own for each gate"),
        (forward(9, 64, small._replace(shared_bytes=48_000)), "no tiles of 64 units fit"),
        (forward(1, 64, element="float64"), "float64"),
        (forward(1, 64, epsilon=1e-5), "layer normalisation"),
        (forward(1, 64, activations=("softmax",) * 5), "activations of whole rows"),
        (forward(1, 64, peephole=True, zoneout=(True, False), record=True), "gradients of peepholes"),
    ):
        assert found[1:3] == ("step", "step")
        assert reason in found.reason
    for batch, units, mode, limits, expected, reason in (
        (33, 256, "tf32", choice.H100, ("cluster", "cluster"), "8 blocks a cluster"),
        (3, 130, "bf16", choice.H100, ("cluster", "cluster"), "8 blocks a cluster"),
        (9, 512, "bf16", choice.H100, ("cluster", "cluster"), "16 blocks a cluster"),
        (32, 256, "fp32", choice.H100, ("cluster", "cluster"), "8 blocks a cluster hold the recurrent weights, for 2"),
        (3, 512, "bf16", choice.H100._replace(capability=(12, 0)), ("grid", "grid"), "64 blocks"),
        (3, 64, "tf32", choice.H100._replace(multiprocessors=3), ("tiles", "tiles"), "blocks of 16 rows"),
        (3, 512, "tf32", choice.H100, ("grid", "grid"), "64 blocks"),
        (3, 256, "tf32", small, ("grid", "grid"), "32 blocks"),
    ):
        found = choice.choose(options, batch, units, mode, "auto", limits)
        assert (found.forward, found.backward) == expected
        assert reason in found.reason
    for mode, units, changes, reason in (
        ("fp32", 257, {}, "more than the 256"),
        ("tf32", 257, {}, "more than the 256"),
        ("tf32", 64, {"projection": True}, "no projection"),
        ("tf32", 64, {"factors": 4}, "differs between the gates"),
    ):
        found = choice.choose(options._replace(**changes), 9, units, mode, "cluster", choice.H100)
        assert found.forward == "step"
        assert reason in found.reason
    assert "9.0" in choice.choose(options, 9, 64, "tf32", "cluster", small).reason
    assert choice.choose(options, 1, 64, "fp32-fast", "auto", choice.H100).product == "fp32"


def test_the_choice_of_tiles_follows_from_sizes_mode_and_device():
    def chosen(batch, units, mode="fp32", limits=choice.H100, backward=False):
        found = tiles(batch, units, mode, limits.multiprocessors, limits.shared_bytes, backward)
        return found and (found.tiling.rows, found.tiling.units, found.tiling.pieces > 0, found.rows)

    for found, expected in (
        (chosen(9, 17), (32, 8, True, 1408)),
        (chosen(64, 512), (16, 16, True, 64)),
        (chosen(64, 1024), (64, 8, True, 64)),
        (chosen(256, 1024), (64, 32, False, 256)),
        (chosen(1024, 1024), (64, 32, False, 256)),  # in four launches
        (chosen(256, 1024, "bf16"), (64, 16, True, 128)),
        (chosen(64, 512, backward=True), (16, 16, True, 64)),
        (chosen(64, 1024, backward=True), (16, 32, False, 64)),
        (chosen(64, 512, limits=choice.H100._replace(shared_bytes=101_376)), (64, 16, False, 256)),
        (chosen(1, 5000), None),
    ):
        assert found == expected
    for batch, units, mode in ((9, 17, "fp32"), (40, 200, "tf32"), (256, 1024, "bf16")):
        for limits in (choice.H100, choice.Limits((8, 0), 108, 166_912)):
            for backward in (False, True):
                tiling, rows = tiles(batch, units, mode, limits.multiprocessors, limits.shared_bytes, backward)
                blocks = -(-min(batch, rows) // tiling.rows) * -(-units // tiling.units)
                assert blocks <= limits.multiprocessors
                assert tiling.shared <= limits.shared_bytes
    options, found = Options("float32"), {}
    for kernel in ("auto", "tiles", "grid"):
        found[kernel] = [choice.choose(options, batch, 264, "fp32", kernel, choice.H100)[1:3] for batch in (8, 9)]
    assert found["auto"] == [("grid", "grid"), ("tiles", "tiles")]
    assert found["tiles"] == [("tiles", "tiles")] * 2
    assert found["grid"] == [("grid", "grid"), ("step", "step")]
    told = str(choice.choose(options, 64, 1024, "fp32", "auto", choice.H100))
    assert told.endswith("blocks of 64 rows x 8 units, recurrent weights in shared memory")


def test_the_shape_of_clusters_follows_from_sizes_mode_and_device():
    def shape(batch, units, mode="fp32", multiprocessors=132):
        return tuple(choice.cluster_shape(batch, units, mode, choice.H100._replace(multiprocessors=multiprocessors)))

    assert shape(1, 5) == shape(66, 32) == (128, 1, 2, 16)
    assert shape(67, 33) == (128, 4, 4, 16)
    assert shape(1, 65) == (128, 1, 8, 16)
    assert shape(32, 256) == (256, 2, 8, 32)
    assert shape(1000, 129) == (256, 8, 8, 32)
    assert shape(2, 256, multiprocessors=4) == (256, 8, 8, 32)
    assert shape(1, 5, "tf32") == (128, 8, 4, 32)
    assert shape(1, 257, "bf16") == (512, 8, 16, 32)
    assert choice.cluster_shape(1000, 256, "fp32", choice.H100, factors=4) == (256, 4, 8, 32)
    assert choice.cluster_shape(1000, 128, "fp32", choice.H100, factors=4) == (128, 8, 8, 16)


def test_explaining_needs_no_gpu(rng):
    parameters = make_parameters(rng, 3, 257, np.float32)
    assert str(nl.explain_gpu(parameters, 2)) == (
        "fp32: forward grid, backward grid, products fp32; 33 blocks hold the recurrent weights in registers"
    )
    assert nl.explain_gpu(parameters, 64, mode="bf16", masked=True).forward == "cluster"
    assert nl.explain_gpu(parameters, 64, masked=True).forward == "tiles"
    assert "layer normalisation" in nl.explain_gpu(make_parameters(rng, 3, 130, np.float32, norm=True), 2).reason
    with pytest.raises(ValueError, match="explain_gpu: mode must be one of"):
        nl.explain_gpu(parameters, 2, mode="fp16")


def test_settings():
    assert nl.get_gpu() == ("fp32", "auto")
    try:
        nl.set_gpu("bf16", kernel="step")
        assert nl.get_gpu() == ("bf16", "step")
        with pytest.raises(
            ValueError, match="set_gpu: kernel must be one of 'auto', 'step', 'grid', 'tiles', 'cluster', got"
        ):
            nl.set_gpu("tf32", "fast")
        assert nl.get_gpu()[1] == "step"
    finally:
        nl.set_gpu()


def test_padded_lists_and_masks_in_processing_order(rng, parameters):
    sequences = [rng.normal(size=(length, 3)) for length in (2, 3)]
    problem = settle(make_request(sequences, parameters, go_backwards=True), record=False)
    np.testing.assert_array_equal(problem.x[0], [*sequences[0][::-1], [0, 0, 0]])
    np.testing.assert_array_equal(problem.mask, [[1, 1], [1, 1], [0, 1]])
    mask = np.array([[False, True, False], [False, False, False]])
    problem = settle(make_request(rng.normal(size=(2, 3, 3)), parameters, mask=mask, go_backwards=True), record=False)
    np.testing.assert_array_equal(problem.mask, [[0, 0], [1, 0], [0, 0]])
    np.testing.assert_array_equal(problem.first, [1, 3])


# ---- arrays of other libraries


def foreign(**changes):
    interface = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "version": 3, "strides": None}
    return SimpleNamespace(__cuda_array_interface__=interface | changes)


def test_arrays_of_other_libraries(monkeypatch):
    monkeypatch.setattr(arrays, "_device_of", lambda pointer: 1)
    found = arrays.view("f", "inputs", foreign(strides=(32, 8), stream=77), np.dtype("f4"))
    assert (found.pointer, found.shape, found.strides, found.device) == (4096, (2, 3), (8, 2), 1)
    assert not found.contiguous
    assert found.stream == 77
    assert arrays.view("f", "inputs", foreign(), np.dtype("f4")).stream is None
    assert arrays.view("f", "inputs", found, np.dtype("f4")) is found
    with pytest.raises(ValueError, match="f: inputs on the GPU must have dtype float64, got float32"):
        arrays.view("f", "inputs", foreign(), np.dtype("f8"))
    with pytest.raises(ValueError, match="strides of whole elements"):
        arrays.view("f", "inputs", foreign(strides=(33, 8)), np.dtype("f4"))
    with pytest.raises(ValueError, match="Pass mask="):
        arrays.view("f", "inputs", foreign(mask=foreign()), np.dtype("f4"))


def test_dlpack_serves_what_does_not_name_its_stream(monkeypatch):
    taken = DeviceArray(4096, (2, 3), "f4", 0, None)
    monkeypatch.setattr(arrays, "_device_of", lambda pointer: 0)
    monkeypatch.setattr(arrays, "_from_dlpack", lambda x: taken)
    old, new = foreign(version=2), foreign()
    assert arrays.view("f", "inputs", old, None) is not taken
    for one in (old, new):
        one.__dlpack__ = lambda **_: None
    assert arrays.view("f", "inputs", old, None) is taken
    assert arrays.view("f", "inputs", new, None) is not taken
    assert arrays.view("f", "inputs", SimpleNamespace(__dlpack__=None), None) is taken


def test_what_lies_on_a_gpu():
    on_cuda = SimpleNamespace(__dlpack_device__=lambda: (2, 0))
    on_host = SimpleNamespace(__dlpack_device__=lambda: (1, 0))
    assert arrays.on_gpu(foreign())
    assert arrays.on_gpu(on_cuda)
    assert not any(map(arrays.on_gpu, (on_host, np.zeros(2), [foreign()], 3.0, None)))


def test_arrays_on_a_gpu_without_one(fresh, monkeypatch, rng):
    fresh.setattr(ctypes, "CDLL", no_library)
    monkeypatch.setattr(arrays, "_device_of", lambda pointer: 0)
    parameters = LSTMParameters(np.zeros((3, 8), "f4"), np.zeros((2, 8), "f4"))
    x = foreign(shape=(2, 4, 3))
    with pytest.raises(DeviceUnavailableError, match="no NVIDIA driver"):
        lstm_forward(x, parameters)
    with pytest.raises(ValueError, match=r"inputs must have shape \(batch, time, 3\), got \(2, 4, 5\)"):
        lstm_forward(foreign(shape=(2, 4, 5)), parameters)


def test_ours_is_one_that_others_take():
    made = DeviceArray(4096, (2, 3), np.dtype("f4"), 0, None)
    assert made.__cuda_array_interface__ == {
        "shape": (2, 3), "typestr": "<f4", "data": (4096, False), "version": 3, "strides": None, "stream": 1,
    }  # fmt: skip
    assert (made.ndim, made.size, made.nbytes, len(made), made.at(2)) == (2, 6, 24, 2, 4104)
    assert DeviceArray(4096, (2, 3), "f4", 0, None, (1, 2)).__cuda_array_interface__["strides"] == (4, 8)
    assert DeviceArray(0, (0, 3), "f4", 0, None).contiguous
