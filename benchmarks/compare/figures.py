"""The two pictures of a file of results. They carry its digest, so that a test can tell an old picture."""

import limits
import numpy as np
from cases import Case
from reading import best_peer, peers_of, rows_by, seconds
from tables import TRAINING_TARGET

OURS, INK, FAINT = "#0072B2", "#222222", "#BBBBBB"
LOOKS = {  # Okabe and Ito's colours, and a shape each: told apart without colour too
    "ort": ("onnxruntime", "#E69F00", "s"),
    "ort-bound": ("onnxruntime, bound buffers", "#E69F00", "D"),
    "openvino": ("OpenVINO", "#009E73", "^"),
    "torch": ("PyTorch", "#CC79A7", "v"),
    "jax": ("JAX", "#56B4E9", "P"),
    "keras-tf": ("Keras, TensorFlow", "#D55E00", "X"),
    "keras-tf-xla": ("Keras, TensorFlow with XLA", "#D55E00", "d"),
    "torch-plain": ("PyTorch without oneDNN", "#CC79A7", "<"),
    "numpy": ("NumPy", "#999999", "h"),
}


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    return plt


def _save(figure, path, digest):
    figure.savefig(path, dpi=130, metadata={"Software": None, "Comment": f"results {digest}"})


def draw_peers(found, path, digest):
    """Draw each case's speed over that of the best peer, one panel for each number of threads."""
    plt = _pyplot()
    names = [name for name, record in found["cases"].items() if any(peers_of(record, count) for count in (1, 2))]
    figure, panels = plt.subplots(1, 2, figsize=(12, 1.9 + 0.34 * len(names)), sharey=True, layout="constrained")
    handles = {}
    for count, panel in zip((1, 2), panels, strict=True):
        for place, name in enumerate(names):
            _draw_case(panel, place, found["cases"][name], count, handles)
        panel.axvline(1, color=INK, lw=1)
        targets = [TRAINING_TARGET if found["cases"][name]["case"]["mode"] == "train" else 1.25 for name in names]
        for target in dict.fromkeys(targets):
            places = [place for place, its in enumerate(targets) if its == target]
            panel.vlines([target] * len(places), np.add(places, -0.5), np.add(places, 0.5), INK, (0, (4, 4)), lw=1)
            panel.text(target + 0.02, places[0] - 0.5, f"{target}", color=INK, va="bottom", ha="left", fontsize=8)
        panel.set(xscale="log", xlim=(0.18, 7.6), ylim=(len(names) - 0.5, -1))
        ticks = (0.2, 0.5, 1, 2, 5)
        panel.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
        panel.set_xticks([], minor=True)
        panel.set_yticks(range(len(names)), names)
        panel.grid(axis="y", color="#EEEEEE")
        panel.set_axisbelow(True)
        panel.set_title("one thread" if count == 1 else "two threads (or one, where that is faster)", loc="left")
        panel.set_xlabel("speed, times the fastest other library")
    handles = {
        label: handles[label] for label in sorted(handles, key=lambda label: (label != "numbalstm", label.lower()))
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6), frameon=False
    )
    figure.suptitle(
        "float32 LSTM, inference and training: numbalstm beside the others, further right is faster", x=0.01, ha="left"
    )
    _save(figure, path, digest)
    plt.close(figure)


def _draw_case(panel, place, record, count, handles):
    peers = peers_of(record, count)
    if not peers:
        panel.text(1.33, place, "not shared between threads", va="center", fontsize=8, color="#777777")
        return
    _, best = best_peer(record, count)
    for name, taken in peers.items():
        label, colour, shape = LOOKS[name]
        at = max(best / taken, 0.19)  # far behind: at the edge
        style = {"marker": shape, "ms": 7, "color": colour, "mec": "white", "mew": 0.5, "ls": "none"}
        handles[label] = panel.plot(at, place, **style, zorder=3)[0]
    if (row := rows_by(record).get(("numbalstm", count))) and "median" in row:
        ours = best / seconds(record, row)
        at = min(max(ours, 0.19), 5)
        panel.plot([1, at], [place, place], color=OURS, lw=2.5, zorder=2)
        handles["numbalstm"] = panel.plot(at, place, "o", ms=10, color=OURS, mec="white", ls="none", zorder=4)[0]
        panel.text(7.5, place, f"{ours:.2f}", ha="right", va="center", color=OURS, weight="bold", fontsize=10)


def draw_roofline(found, path, digest):
    """Draw GFLOP/s over flops per byte read, with the measured limits, for one thread and two."""
    plt = _pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(12, 6.6), sharey=True, layout="constrained")
    measured = found.get("limits")
    cases = {name: record for name, record in found["cases"].items() if record["case"]["mode"] != "train"}
    for count, panel in zip((1, 2), panels, strict=True):
        if measured:
            _draw_roof(panel, measured, count)
        _draw_points(panel, cases, count)
        panel.set(xscale="log", yscale="log", xlim=(0.3, 1000), xlabel="flops per byte that must be read")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_title("one thread" if count == 1 else "two threads", loc="left")
        panel.grid(color="#F0F0F0")
        panel.set_axisbelow(True)
    panels[0].set_ylabel("GFLOP/s of the products")
    key = "\n".join(f"{number:>2}  {name}" for number, name in enumerate(cases, 1))
    figure.suptitle("numbalstm, float32 inference, under the measured limits of the machine", x=0.01, ha="left")
    panels[1].text(1.03, 1, key, transform=panels[1].transAxes, va="top", family="monospace", fontsize=9)
    _save(figure, path, digest)
    plt.close(figure)


def _draw_points(panel, records, count):
    """Draw the cases as dots with their numbers, which are moved up where they would cover each other."""
    points = []
    for number, record in enumerate(records.values(), 1):
        row, case = rows_by(record).get(("numbalstm", count), {}), Case(**record["case"])
        if "median" in row:
            rate = case.flops / seconds(record, row) * 1e-9
            points.append((rate, limits.intensity(case), number, case.mode == "stream"))
    taken = []
    for rate, flops, number, stream in sorted(points):
        near = [height for x, height in taken if abs(np.log(x / flops)) < 0.35]
        height = max([rate, *(other * 1.09 for other in near)])
        taken.append((flops, height))
        panel.plot(flops, rate, "D" if stream else "o", ms=6, color="#D55E00" if stream else OURS, mec="white", mew=0.5)
        panel.annotate(str(number), (flops * 1.1, height), va="center", fontsize=9, color=INK)


def _draw_roof(panel, measured, count):
    peak = measured[f"gflops_{count}"]
    x = np.geomspace(0.3, 1000, 200)
    panel.axhline(peak, color=INK, lw=1.5)
    panel.text(950, peak * 1.04, f"multiply-adds: {peak:.0f} GFLOP/s", ha="right", va="bottom", fontsize=9, color=INK)
    blocks = (("16 KB", 16), ("512 KB", 512), ("8 MB", 8192), ("128 MB", 131072))
    for (name, kilobytes), style in zip(blocks, ("-", "--", "-.", ":"), strict=True):
        rate = measured[f"read_gbs_{count}"][str(kilobytes)]
        under = x * rate <= peak
        panel.plot(x[under], x[under] * rate, color="#777777", lw=1.2, ls=style, label=f"{name}: {rate:.0f} GB/s")
    panel.legend(loc="lower right", fontsize=9, frameon=False, title="reading a block of")
