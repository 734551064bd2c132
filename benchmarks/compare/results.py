"""The file of results: which machine, how measured, and every figure that the documentation shows."""

import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path

FOLDER = Path(__file__).parent
_DISTRIBUTIONS = (
    "numbalstm", "numpy", "numba", "onnxruntime", "openvino", "torch", "jax", "keras", "tensorflow-cpu",
)  # fmt: skip
_ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "asimddp")


def machine():
    """Return a description of this machine and the versions of what is compared."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name = re.search(r"model name\s*: (.*)", text)
    numbers = re.findall(r"(?:cpu family|model)\s+: (\d+)", text)[:2]
    flags = re.search(r"(?:flags|Features)\s*: (.*)", text)
    present = flags[1].split() if flags else []
    versions = {}
    for distribution in _DISTRIBUTIONS:
        try:
            versions[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "numbalstm" not in versions:  # run from a checkout
        import numbalstm

        versions["numbalstm"] = numbalstm.__version__
    return {
        "cpu": name[1] if name else platform.processor() or platform.machine(),
        "family and model": "/".join(numbers),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in _ISA if flag in present],
        "python": platform.python_version(),
        "versions": versions,
    }


def default_path():
    """Return the file for this machine: results-<processor>-<cores>.json beside the scripts."""
    about = machine()
    words = re.sub(r"\((?:R|TM)\)|processor|cpu", "", about["cpu"], flags=re.IGNORECASE)
    name = "-".join([*re.findall(r"\w+", words.lower()), *about["family and model"].split("/"), f"{about['cores']}c"])
    return FOLDER / f"results-{name}.json"


def load(path):
    """Return the results in a file; an empty record when there is none."""
    return json.loads(Path(path).read_text()) if Path(path).exists() else {}


def save(path, results):
    """Write the results, whole or not at all; each record of figures on one line."""
    text = json.dumps(_rounded(results), indent=1)
    flat = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: re.sub(r"\s*\n\s*", " ", match[0]), text)
    temporary = Path(path).with_suffix(".tmp")
    temporary.write_text(flat + "\n")
    os.replace(temporary, path)


def _rounded(value):
    """Keep five digits of every float: more than any of them is good for."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
