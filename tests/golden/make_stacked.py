"""Make stacked.npz: stacks of LSTM layers in torch with random weights, what they return, and gradients.

Run in an environment with torch:

    python tests/golden/make_stacked.py

Made with torch 2.13.0 on the CPU.  The loss is the sum over the returned arrays r of sum(r * g_r); ``d_<name>`` is its
gradient.  Weights have torch's names and layouts, in cases of several modules (widths that differ) with the module's
number in front.  ``x`` is (batch, time, features).
"""

import json
from pathlib import Path

import numpy as np
import torch

random = np.random.default_rng(50123)
arrays: dict[str, np.ndarray] = {}


def draw(*shape, dtype=torch.float64):
    """Random numbers, multiples of 2**-10: exact in float32."""
    return torch.tensor(np.round(random.standard_normal(shape) * 512) / 1024, dtype=dtype)


def lstm(*sizes, dtype=torch.float64, **options):
    module = torch.nn.LSTM(*sizes, batch_first=True, dtype=dtype, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(draw(*parameter.shape, dtype=dtype))
    return module


def save(name, config, inputs, outputs, modules):
    """Record one case: inputs and outputs by name, and the gradients of all inputs of floats and of all weights."""
    cotangents = {f"g_{key}": draw(*value.shape, dtype=value.dtype) for key, value in outputs.items()}
    loss = sum((value * cotangents[f"g_{key}"]).sum() for key, value in outputs.items())
    loss.backward()
    found = {**inputs, **outputs, **cotangents}
    found |= {f"d_{key}": value.grad for key, value in inputs.items() if value.requires_grad}
    for number, module in enumerate(modules):
        prefix = f"{number}_" if len(modules) > 1 else ""
        for key, parameter in module.named_parameters():
            found[prefix + key] = parameter
            found[f"d_{prefix}{key}"] = parameter.grad
    arrays[f"{name}/config"] = np.array(json.dumps(config))
    for key, value in found.items():
        arrays[f"{name}/{key}"] = value.detach().numpy()


def whole(name, batch, time, features, units, layers, bidirectional, dtype=torch.float64, lengths=None, **options):
    """One nn.LSTM, with an initial state, of padded sequences where lengths are given."""
    module = lstm(features, units, layers, bidirectional=bidirectional, dtype=dtype, **options)
    count, width = layers * (1 + bidirectional), options.get("proj_size") or units
    inputs = {
        "x": draw(batch, time, features, dtype=dtype).requires_grad_(),
        "h_0": draw(count, batch, width, dtype=dtype).requires_grad_(),
        "c_0": draw(count, batch, units, dtype=dtype).requires_grad_(),
    }
    x = inputs["x"]
    if lengths is not None:
        inputs["lengths"] = torch.tensor(lengths)
        x = torch.nn.utils.rnn.pack_padded_sequence(x, inputs["lengths"], batch_first=True, enforce_sorted=False)
    y, (h_n, c_n) = module(x, (inputs["h_0"], inputs["c_0"]))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=time)
    config = {"units": units, "num_layers": layers, "bidirectional": bidirectional}
    config |= {"proj_size": options.get("proj_size", 0), "use_bias": options.get("bias", True)}
    save(name, config, inputs, {"y": y, "h_n": h_n, "c_n": c_n}, [module])


def widths(name, batch, time, features, units, bidirectional):
    """A module for each layer, since their widths differ, with dropout factors between them."""
    modules, inputs = [], {"x": draw(batch, time, features).requires_grad_()}
    y, outputs = inputs["x"], {}
    for number, width in enumerate(units):
        modules.append(lstm(y.shape[2], width, bidirectional=bidirectional))
        y, (h_n, c_n) = modules[-1](y)
        for direction in range(1 + bidirectional):
            outputs |= {f"h_n{len(outputs) // 2}": h_n[direction], f"c_n{len(outputs) // 2}": c_n[direction]}
        if number < len(units) - 1:
            factors = torch.tensor(random.integers(0, 2, y.shape) * 2.0)
            inputs[f"factors{number}"] = factors
            y = y * factors
    save(name, {"units": units, "bidirectional": bidirectional, "dropout": 0.5}, inputs, {"y": y, **outputs}, modules)


whole("three", 3, 5, 4, 3, 3, False)
whole("bidirectional", 2, 6, 3, 4, 2, True)
whole("no_bias", 3, 4, 2, 3, 2, True, bias=False)
whole("lengths", 4, 6, 3, 3, 2, True, lengths=[3, 6, 1, 4])
whole("projection", 3, 5, 4, 5, 2, True, proj_size=2)
whole("float32", 3, 5, 4, 7, 3, True, dtype=torch.float32)
widths("widths", 3, 5, 4, [5, 2, 3], True)
widths("widths_forward", 2, 4, 3, [2, 4], False)
np.savez_compressed(Path(__file__).with_name("stacked.npz"), **arrays)
