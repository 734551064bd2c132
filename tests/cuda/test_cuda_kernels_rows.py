"""Layer normalisation and activations of whole rows, with everything else: steps with a block for each row."""

import numpy as np
import pytest
from simulated_device import SimulatedDevice
from simulated_requests import assert_close, differences, make_request
from support.cases import holes, make_parameters, make_state
from support.variants import CASES, label, problem
from test_cuda_kernels_power import mutated, notices

from numbalstm import activations
from numbalstm.backends import reference
from numbalstm.backends.cuda import passes
from numbalstm.backends.interface import Variant
from numbalstm.kernels.cuda import rows, step_rows, step_rows_backward
from numbalstm.kernels.cuda.options import WHOLE_ROWS, Options
from numbalstm.parameters import LSTMParameters

BATCH, STEPS, FEATURES, UNITS = 3, 4, 5, 6
TOLERANCE = {np.float64: 1e-13, np.float32: 5e-6}
get, onnx = activations.get, activations.onnx


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, STEPS, FEATURES))


def made(rng, case, dtype=np.float64):
    """The request of a combination of `support.variants`."""
    x, parameters, options = problem(rng, case, dtype=dtype)
    variant = options["variant"]
    if variant.activations is not None:
        options["variant"] = variant._replace(activations=tuple(map(get, variant.activations)))
    return make_request(x, parameters, **options)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_everything_with_everything(rng, case):
    assert_close(differences(rng, made(rng, case)), TOLERANCE[np.float64])


@pytest.mark.parametrize("projection", [None, 2])
def test_layer_normalisation_in_float32(rng, x, projection):
    parameters = make_parameters(rng, FEATURES, UNITS, np.float32, peephole=True, projection=projection, norm=True)
    mask = holes(rng, BATCH, STEPS)
    x[~mask] = np.nan
    request = make_request(
        x.astype(np.float32), parameters, mask=mask, initial_state=make_state(rng, parameters, BATCH),
        variant=Variant(zoneout=(0.2, 0.1), coupled=projection is None), go_backwards=True,
    )  # fmt: skip
    assert_close(differences(rng, request), TOLERANCE[np.float32])


def test_rows_longer_and_shorter_than_a_block(rng):
    for units in (37, 1):
        parameters = make_parameters(rng, 2, units, norm=True)
        request = make_request(rng.normal(size=(1, 2, 2)), parameters, activation=get("softmax"))
        assert_close(differences(rng, request), TOLERANCE[np.float64])


def test_large_numbers_keep_their_variance(rng, x):
    """The variance is that of the deviations, not a difference of large numbers."""
    parameters = make_parameters(rng, 1, UNITS, np.float32, norm=True)
    parameters = LSTMParameters(
        parameters.kernel + np.float32(300.0), parameters.recurrent_kernel, norm=parameters.norm
    )  # fmt: skip
    request = make_request((1 + 0.1 * x[..., :1]).astype(np.float32), parameters)
    assert differences(rng, request, backward=False)["outputs"] < 2e-4


def test_inputs_come_in_chunks(rng, x, monkeypatch):
    monkeypatch.setattr("numbalstm.backends.cuda.tape.CHUNK", 3 * BATCH * 4 * UNITS * 8)
    parameters, device = make_parameters(rng, FEATURES, UNITS, norm=True), SimulatedDevice()
    factors = rng.choice([0.0, 2.0], (4, BATCH, FEATURES)), None
    request = make_request(x, parameters, dropout_masks=factors)
    assert_close(differences(rng, request, device, backward=False), TOLERANCE[np.float64])
    assert device.launches.count("normalise") == 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", WHOLE_ROWS)
def test_activations_of_whole_rows(rng, x, name, dtype):
    parameters, mask = make_parameters(rng, FEATURES, UNITS, dtype, peephole=True), holes(rng, BATCH, STEPS)
    shared = {"mask": mask, "initial_state": make_state(rng, parameters, BATCH)}
    x = (2 * x).astype(dtype)
    for functions in ({"activation": get(name)}, {"recurrent_activation": get(name)}):
        request = make_request(x, parameters, **functions, **shared, variant=Variant(gate_clip=0.9, cell_clip=0.8))
        assert_close(differences(rng, request), TOLERANCE[dtype])


@pytest.mark.parametrize("gate", range(5))
def test_one_gate_of_whole_rows(rng, x, gate):
    """Each in its place: a different function everywhere, and a coupled forget gate beside it."""
    forms = list(map(get, ("sigmoid", "hard_sigmoid", "softsign", "sigmoid", "tanh")))
    forms[gate] = get(WHOLE_ROWS[gate % 3])
    variant = Variant(activations=tuple(forms), coupled=gate == 0)
    request = make_request(x, make_parameters(rng, FEATURES, UNITS), variant=variant)
    assert_close(differences(rng, request), TOLERANCE[np.float64])


@pytest.mark.parametrize("name", WHOLE_ROWS)
def test_rows_of_any_numbers(rng, name):
    """Large numbers, equal numbers, infinities and NaN: as on the CPU, and to an end."""
    parameters = make_parameters(rng, 4, 4, np.float32, bias=False)
    kernel = np.zeros((4, 16), np.float32)
    kernel[:, 8:12] = np.eye(4)  # the candidate sees the input
    parameters = LSTMParameters(kernel, np.zeros((4, 16), np.float32))
    inputs = [
        [1e8, 1e8, -1e8, 0], [3, 3, 3, 3], [88, 90, -90, 0], [np.nan, 1, 2, 3], [-3e38, 3e38, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    x = np.array(inputs, np.float32)[:, None]
    functions = (get("sigmoid"), get("sigmoid"), get(name), get("sigmoid"), get("linear"))
    request = make_request(x, parameters, variant=Variant(activations=functions))
    with np.errstate(all="ignore"):
        expected = reference.forward(request).outputs
    found = passes.forward(SimulatedDevice(), request).outputs
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


NUMBERS = (onnx("HardSigmoid", 0.3, 0.4), onnx("Affine", 0.3, 0.4), onnx("ScaledTanh", 1.5, 0.7))
MORE = (onnx("LeakyRelu", 0.3), onnx("Elu", 0.7), onnx("ThresholdedRelu", 0.2), get("sigmoid"), get("tanh"))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("functions", [(*NUMBERS, *MORE[:2]), MORE], ids=["some", "others"])
def test_activations_with_numbers_of_their_own(rng, x, functions, dtype):
    parameters = make_parameters(rng, FEATURES, UNITS, dtype)
    device = SimulatedDevice()
    request = make_request((2 * x).astype(dtype), parameters, variant=Variant(activations=functions))
    assert_close(differences(rng, request, device), TOLERANCE[dtype])
    rows = make_request(x.astype(dtype), make_parameters(rng, FEATURES, UNITS, dtype, norm=True))
    rows = rows._replace(variant=Variant(activations=functions))
    assert_close(differences(rng, rows, device), TOLERANCE[dtype])


def test_results_repeat_to_the_bit_under_any_schedule(rng, x):
    parameters = make_parameters(rng, FEATURES, UNITS, np.float32, norm=True)
    request = make_request(x.astype(np.float32), parameters, recurrent_activation=get("softmax"))
    results = []
    for seed in range(3):
        result, tape = passes.record(SimulatedDevice(seed, 0.1, fair=seed < 2), request)
        gradients = tape.pullback(np.ones_like(result.outputs), None, None)
        results.append([result.outputs, gradients.x, *(gradients.parameters[name] for name in parameters.arrays)])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_takes_whole_rows():
    assert not Options("float32").by_rows
    assert Options("float32", epsilon=0.0).by_rows
    assert Options("float32", ("sigmoid", "sigmoid", "tanh", "sigmoid", "sparsemax")).by_rows


@pytest.mark.parametrize("norm", [False, True])
def test_a_clip_passes_no_gradient_at_its_ends(rng, norm):
    """Sums and c that lie on a limit exactly: as they do once they have been clipped."""
    kernel = np.zeros((1, 4 * UNITS))
    bias = np.repeat([0.5, 50.0, 0.0, -0.5], UNITS)  # f is 1, g is 0: c stays where it is
    normal = make_parameters(rng, 1, UNITS, norm=True).norm if norm else None
    if norm:
        zeros = np.zeros(4 * UNITS)
        normal = normal._replace(kernel_beta=zeros, recurrent_beta=zeros)
    parameters = LSTMParameters(kernel, np.zeros((UNITS, 4 * UNITS)), bias, norm=normal)
    state = np.zeros((1, UNITS)), np.array([[0.5, -0.5, 0.4, -0.4, 0.0, 0.6]])
    for variant in (Variant(cell_clip=0.5), Variant(gate_clip=0.5)):
        request = make_request(np.ones((1, 1, 1)), parameters, initial_state=state, variant=variant)
        assert_close(differences(rng, request), TOLERANCE[np.float64])


BUGS = {
    "no barrier before the pairs": [("shared[tid] = value\n        cuda.syncthreads()", "shared[tid] = value")],
    "no barrier between the pairs": [("cuda.syncthreads()\n            half //= 2", "half //= 2")],
    "the next sum over this one": [("cuda.syncthreads()  # nobody writes", "# nobody writes")],
}


@pytest.fixture
def no_kernels():
    """Kernels are made anew, and not found again by other tests."""
    modules = (vars(module).values() for module in (step_rows, step_rows_backward))
    factories = [value for values in modules for value in values if hasattr(value, "cache_clear")]
    for factory in factories:
        factory.cache_clear()
    yield
    for factory in factories:
        factory.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *BUGS])
def test_planted_bugs(no_kernels, monkeypatch, name):
    made = mutated(rows, BUGS.get(name, []))
    for module in (step_rows, step_rows_backward):
        for factory in ("make_standardise", "make_row_activation"):
            monkeypatch.setattr(module, factory, getattr(made, factory))
    monkeypatch.setattr(step_rows_backward, "make_standardise_backward", made.make_standardise_backward)

    def agrees(device):
        rng = np.random.default_rng(5)
        parameters = make_parameters(rng, FEATURES, UNITS, norm=True)
        request = make_request(rng.normal(size=(1, 2, FEATURES)), parameters, activation=get("softmax"))
        return all(value < 1e-12 for value in differences(rng, request, device).values())

    assert notices(agrees) == (name is not None)
