"""Make variants.npz: LSTM variants of TensorFlow 1 and in PyTorch, with gradients, all float64.

Run in an environment with TensorFlow, tf_keras and PyTorch:

    python tests/golden/make_variants.py

`tf1_*`: the LSTMCell of tf.compat.v1 (peepholes, cell_clip, num_proj, proj_clip) as tf_keras keeps it, over time.
`torch_*`: an LSTM put together from torch.nn.functional.layer_norm and plain operations, differentiated by autograd:
layer normalisation (Ba et al. 2016), zoneout with given masks (Krueger et al. 2017), coupled gates.  Made with tf_keras
2.21.0, TensorFlow 2.21 and PyTorch 2.13, CPU.

Each case holds the weights in the layout of numbalstm, x, h0, c0, the cotangents g_*, the results out, h, c, and d_*,
the gradients of sum(out * g_out) + sum(h * g_h) + sum(c * g_c).
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
import torch
from tf_keras.src.layers.rnn.legacy_cells import LSTMCell, LSTMStateTuple

PATH = Path(__file__).with_name("variants.npz")
BATCH, TIME, FEATURES, UNITS, PROJECTION = 3, 6, 4, 5, 2
random = np.random.default_rng(20417)
arrays: dict[str, np.ndarray] = {}


def draw(*shape, scale=0.7):
    return random.normal(0.05, scale, shape)


def problem(width):
    return {
        "x": draw(BATCH, TIME, FEATURES),
        "h0": draw(BATCH, width, scale=0.4),
        "c0": draw(BATCH, UNITS, scale=0.6),
        "kernel": draw(FEATURES, 4 * UNITS),
        "recurrent_kernel": draw(width, 4 * UNITS),
        "bias": draw(4 * UNITS),
        "g_out": draw(BATCH, TIME, width),
        "g_h": draw(BATCH, width),
        "g_c": draw(BATCH, UNITS),
    }


def save(name, given, results, gradients):
    for key, value in {**given, **results, **gradients}.items():
        arrays[f"{name}__{key}"] = np.asarray(value)


def ifgo_to_ijfo(weights):
    i, f, g, o = np.split(weights, 4, axis=-1)
    return np.concatenate([i, g, f, o], axis=-1)


def tf1(name, **options):
    width = options.get("num_proj", UNITS)
    given = problem(width)
    if options.get("use_peepholes"):
        given["peephole_kernel"] = draw(3, UNITS)
    if "num_proj" in options:
        given["projection_kernel"] = draw(UNITS, width)
    cell = LSTMCell(UNITS, forget_bias=0.0, dtype=tf.float64, name=name, **options)
    cell.build((BATCH, FEATURES))
    values = [ifgo_to_ijfo(np.concatenate([given["kernel"], given["recurrent_kernel"]])), ifgo_to_ijfo(given["bias"])]
    if "peephole_kernel" in given:
        p_i, p_f, p_o = given["peephole_kernel"]
        values += [p_f, p_i, p_o]
    if "projection_kernel" in given:
        values += [given["projection_kernel"]]
    assert [tuple(v.shape) for v in cell.variables] == [v.shape for v in values], cell.variables
    cell.set_weights(values)
    x, h0, c0 = (tf.constant(given[key]) for key in ("x", "h0", "c0"))
    with tf.GradientTape() as tape:
        tape.watch([x, h0, c0])
        h, c, outputs = h0, c0, []
        for t in range(TIME):
            output, (c, h) = cell(x[:, t], LSTMStateTuple(c, h))
            outputs.append(output)
        out = tf.stack(outputs, axis=1)
        loss = sum(tf.reduce_sum(a * given[g]) for a, g in ((out, "g_out"), (h, "g_h"), (c, "g_c")))
    dx, dh, dc, d_matrix, d_bias, *rest = (np.asarray(d) for d in tape.gradient(loss, [x, h0, c0, *cell.variables]))
    gradients = {"d_x": dx, "d_h0": dh, "d_c0": dc, "d_bias": ifgo_to_ijfo(d_bias)}  # its own inverse
    gradients["d_kernel"], gradients["d_recurrent_kernel"] = np.split(ifgo_to_ijfo(d_matrix), [FEATURES])
    if "peephole_kernel" in given:
        d_f, d_i, d_o, *rest = rest
        gradients["d_peephole_kernel"] = np.stack([d_i, d_f, d_o])
    if "projection_kernel" in given:
        gradients["d_projection_kernel"] = rest[0]
    save(name, given, {"out": out, "h": h, "c": c}, gradients)


def in_torch(name, layer_norm=False, zoneout=False, coupled=False):
    given = problem(UNITS)
    if layer_norm:
        for part, width in (("kernel", 4 * UNITS), ("recurrent", 4 * UNITS), ("cell", UNITS)):
            given[f"{part}_gamma"], given[f"{part}_beta"] = 1.0 + draw(width, scale=0.3), draw(width, scale=0.3)
    if zoneout:
        given["zone_c"], given["zone_h"] = ((random.random((BATCH, TIME, UNITS)) < 0.4).astype(float) for _ in "ch")
    fixed = ("zone_c", "zone_h", "g_out", "g_h", "g_c")
    t = {key: torch.tensor(value, requires_grad=key not in fixed) for key, value in given.items()}

    def norm(part, a):
        if not layer_norm:
            return a
        return torch.nn.functional.layer_norm(a, a.shape[-1:], t[f"{part}_gamma"], t[f"{part}_beta"], eps=1e-5)

    h, c, outputs = t["h0"], t["c0"], []
    for step in range(TIME):
        z = norm("kernel", t["x"][:, step] @ t["kernel"]) + norm("recurrent", h @ t["recurrent_kernel"]) + t["bias"]
        i, f, g, o = z.chunk(4, dim=1)
        i, g, o = i.sigmoid(), g.tanh(), o.sigmoid()
        f = 1 - i if coupled else f.sigmoid()
        new_c = f * c + i * g
        new_h = o * norm("cell", new_c).tanh()
        if zoneout:
            keep_c, keep_h = t["zone_c"][:, step], t["zone_h"][:, step]
            new_c, new_h = keep_c * c + (1 - keep_c) * new_c, keep_h * h + (1 - keep_h) * new_h
        h, c = new_h, new_c
        outputs.append(h)
    out = torch.stack(outputs, dim=1)
    ((out * t["g_out"]).sum() + (h * t["g_h"]).sum() + (c * t["g_c"]).sum()).backward()
    gradients = {f"d_{key}": value.grad for key, value in t.items() if value.requires_grad}
    save(name, given, {key: value.detach() for key, value in {"out": out, "h": h, "c": c}.items()}, gradients)


tf1("tf1_peephole", use_peepholes=True)
tf1("tf1_cell_clip", cell_clip=0.4)
tf1("tf1_peephole_cell_clip", use_peepholes=True, cell_clip=0.5)
tf1("tf1_projection", num_proj=PROJECTION)
tf1("tf1_projection_clip", num_proj=PROJECTION, proj_clip=0.2)
tf1("tf1_everything", use_peepholes=True, cell_clip=0.6, num_proj=PROJECTION, proj_clip=0.25)
in_torch("torch_layer_norm", layer_norm=True)
in_torch("torch_zoneout", zoneout=True)
in_torch("torch_coupled", coupled=True)
in_torch("torch_layer_norm_zoneout_coupled", layer_norm=True, zoneout=True, coupled=True)
np.savez_compressed(PATH, **arrays)
