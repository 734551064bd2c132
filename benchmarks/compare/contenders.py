"""The implementations that are compared: how each is built, what it does, and the environment of its process."""

import os
from collections.abc import Callable
from typing import NamedTuple

import inference
import training


class Contender(NamedTuple):
    """A builder and the modes that it serves; loose: in lower precision, so its error is only recorded."""

    build: Callable
    modes: tuple[str, ...]
    loose: bool = False


def _with(build, **options):
    return lambda case, problem, threads: build(case, problem, threads, **options)


def _either(infer, train):
    return lambda case, problem, threads: (train if case.mode == "train" else infer)(case, problem, threads)


_BOTH, _ALL = ("infer", "stream"), ("infer", "train", "stream")
CONTENDERS = {
    "numbalstm": Contender(_either(inference.numbalstm, training.numbalstm), _ALL),
    "numbalstm-bf16": Contender(_with(inference.numbalstm, weights_dtype="bfloat16"), _BOTH, loose=True),
    "numbalstm-int8": Contender(_with(inference.numbalstm, weights_dtype="int8"), _BOTH, loose=True),
    "ort": Contender(inference.onnxruntime, _BOTH),
    "ort-bound": Contender(_with(inference.onnxruntime, bound=True), ("stream",)),
    "ort-int8": Contender(_with(inference.onnxruntime, int8=True), _BOTH, loose=True),
    "openvino": Contender(inference.openvino, _BOTH),
    "torch": Contender(_either(inference.torch, training.torch), _ALL),
    "torch-plain": Contender(_with(training.torch, onednn=False), ("train",)),
    "jax": Contender(_either(inference.jax, training.jax), _ALL),
    "keras-tf": Contender(_either(inference.keras_tf, training.keras_tf), _ALL),
    "keras-tf-xla": Contender(_with(training.keras_tf, xla=True), ("train",)),
    "numpy": Contender(training.numpy, ("train",)),
}
_INFERENCE = ("numbalstm", "numbalstm-bf16", "numbalstm-int8", "ort", "ort-bound", "ort-int8", "openvino", "torch")
DEFAULT = {
    "infer": _INFERENCE,
    "stream": _INFERENCE,
    "train": ("numbalstm", "torch", "torch-plain", "jax", "keras-tf", "keras-tf-xla", "numpy"),
}


def environment(name, threads):
    """Return the environment of a process for one contender and number of threads."""
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")
    pinned = os.environ | {count: str(threads) for count in counts}
    pinned |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "tensorflow"}
    if name == "jax" and threads == 1:
        pinned["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return pinned
