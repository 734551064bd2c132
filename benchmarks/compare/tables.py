"""The tables of a file of results, in Markdown, each figure beside the target that it is held to."""

import math

import limits
from cases import Case
from reading import best_peer, peers_of, placement, rows_by, seconds

TRAINING_TARGET, TRAINING_PEAK = 1.2, 0.85
STREAM_TARGETS = {"stream 32/32": 2.5e-6, "stream 64/128": 6e-6}


def unit(value):
    """Return a time as people write it."""
    return f"{value * 1e6:.1f} µs" if value < 1e-3 else f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"


def table(titles, rows):
    """Return a table in Markdown, nothing without rows."""
    if not rows:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *rows)) + "\n"


def met(holds):
    """Return the words for a target."""
    return "met" if holds else "not met"


def _time(record, name, threads):
    row = rows_by(record).get((name, threads), {})
    return seconds(record, row) if "median" in row else None


def _cases(found, mode):
    return {name: record for name, record in found["cases"].items() if record["case"]["mode"] == mode}


def machine(found):
    """Return what was measured where, and how."""
    about = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    records = list(found["cases"].values())
    dates = sorted({record["date"] for record in records})
    rows = [row for record in records for row in record["rows"] if "median" in row]
    turns = [row["turns"] for row in rows]
    budgets = "/".join(f"{budget:g}" for budget in sorted({record["budget"] for record in records}))
    clean = 100 * sum(row["clean"] for row in rows) / sum(turns)
    where = f"{about['cpu']} (family and model {about['family and model']}), {about['cores']} cores"
    return (
        f"Machine: {where}; {', '.join(about['instructions'])}. Python {about['python']}; {versions}.\n\n"
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {min(turns)} to {max(turns)} turns of "
        f"{budgets} s for each row; {clean:.0f} % of all turns were undisturbed by other processes.\n"
    )


def machine_limits(found):
    """Return what the machine can do at most."""
    measured = found.get("limits")
    if not measured:
        return "The limits of this machine were not measured (no C compiler).\n"
    both = [(f"multiply-adds in float32, vectors of {measured['vector_bytes']} bytes", "gflops", None, "GFLOP/s")]
    names = {"16": "16 KB", "512": "512 KB", "8192": "8 MB", "131072": "128 MB"}
    both += [(f"reading {name} over and over", "read_gbs", size, "GB/s") for size, name in names.items()]
    rows = []
    for what, key, size, per in both:
        values = [measured[f"{key}_{cores}"] for cores in (1, 2)]
        rows.append([what, *(f"{value[size] if size else value:.0f} {per}" for value in values)])
    rows.append(["barrier between two cores, at best", "", f"{measured['barrier_ns']:.0f} ns"])
    return table(["limit", "1 core", "2 cores"], rows)


def _shortfalls(record, case, measured, threads):
    """Return (times the best peer, part of the limit or None, what the target of this many threads lacks)."""
    ours, (_, peer) = _time(record, "numbalstm", threads), best_peer(record, threads)
    times = peer / ours
    part = limits.floor(case, measured, threads) / ours if measured else None
    lacks = []
    if times < 1:
        lacks.append(f"{threads}t: behind")
    elif times < 1.25 and not (part and part >= 0.93):
        lacks.append(f"{threads}t: under 1.25×" + (" and 93 %" if part else ""))
    if part and case.batch >= 32 and case.units >= 256 and part < 0.95:
        lacks.append(f"{threads}t: under 95 %")
    return times, part, lacks


def inference(found):
    """Return the table of whole sequences: numbalstm, the fastest peer, and the limit, with one thread and two."""
    rows, ratios, measured = [], [], found.get("limits")
    for name, record in _cases(found, "infer").items():
        case, cells, lacks, known = Case(**record["case"]), [], [], len(ratios)
        for threads in (1, 2):
            ours = _time(record, "numbalstm", threads)
            if ours is None or not peers_of(record, threads):
                cells += ["-"] * 4
                continue
            times, part, missing = _shortfalls(record, case, measured, threads)
            peer, taken = best_peer(record, threads)
            ratios.append(times)
            lacks += missing
            cells += [unit(ours), f"{peer} {unit(taken)}", f"{times:.2f}", f"{100 * part:.0f} %" if part else "-"]
        one, two = (_time(record, "numbalstm", threads) for threads in (1, 2))
        cells.append(f"{one / two:.2f}" if one and two else "-")
        if one and two and case.batch == 1 and case.units >= 128 and one / two < 1.7:
            lacks.append("2t over 1t: under 1.7")
        targets = "-" if len(ratios) == known else "met" if not lacks else f"not met ({'; '.join(lacks)})"
        rows.append([name.removeprefix("infer "), *cells, placement(record) or "-", targets])
    titles = ["(batch, time, features, units)"]
    for threads in ("1 thread", "2 threads"):
        titles += [threads, "fastest other", "times", "of the limit"]
    text = table([*titles, "2 over 1", "cores", "target"], rows)
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        verdict = met(mean >= 1.25)
        text += f"\nGeometric mean of the {len(ratios)} ratios: {mean:.2f} (target: at least 1.25, {verdict}).\n"
    return text


def training(found):
    """Return the table of forward and backward passes, beside the fastest peer and the arithmetic peak."""
    rows, measured = [], found.get("limits")
    for name, record in _cases(found, "train").items():
        case, cells, lacks = Case(**record["case"]), [], []
        for threads in (1, 2):
            ours = _time(record, "numbalstm", threads)
            if ours is None or not peers_of(record, threads):
                cells += ["-"] * 4
                continue
            peer, taken = best_peer(record, threads)
            part = case.flops / ours / (measured[f"gflops_{threads}"] * 1e9) if measured else None
            cells += [
                unit(ours),
                f"{peer} {unit(taken)}",
                f"{taken / ours:.2f}",
                f"{100 * part:.0f} %" if part else "-",
            ]
            if taken / ours < TRAINING_TARGET:
                lacks.append(f"{threads}t: under {TRAINING_TARGET}×")
            if part and case.batch >= 32 and case.units >= 256 and part < TRAINING_PEAK:
                lacks.append(f"{threads}t: under {100 * TRAINING_PEAK:.0f} %")
        verdict = f"not met ({'; '.join(lacks)})" if lacks else "met"
        verdict = "-" if set(cells) == {"-"} else verdict
        rows.append([name.removeprefix("train "), *cells, placement(record) or "-", verdict])
    titles = ["(batch, time, features, units)"]
    for threads in ("1 thread", "2 threads"):
        titles += [threads, "fastest other", "times", "of the peak"]
    text = table([*titles, "cores", "target"], rows)
    about = (
        "Forward pass and all gradients, for a cotangent of all outputs: of inputs, kernel, recurrent kernel and bias. "
        "The peak is the measured rate of multiply-adds; the work of the products is three times that of the forward "
        f"pass. Target: {TRAINING_TARGET} times the fastest other, and {100 * TRAINING_PEAK:.0f} % of the peak from "
        "batch 32 and 256 units on.\n\n"
    )
    return about + text if text else ""


def streams(found):
    """Return the table of single steps."""
    rows, measured = [], found.get("limits")
    for name, record in _cases(found, "stream").items():
        for threads in (1, 2):
            ours = _time(record, "numbalstm", threads)
            if ours is None or not peers_of(record, threads):
                continue
            peer, taken = best_peer(record, threads)
            reading = limits.floor(Case(**record["case"]), measured, threads) if measured else None
            target = STREAM_TARGETS.get(name) or (reading and 1.2 * reading)
            verdict = f"at most {unit(target)}: {met(ours <= target)}" if target else "-"
            cells = [unit(ours), f"{peer} {unit(taken)}", f"{taken / ours:.2f}", unit(reading) if reading else "-"]
            rows.append([name.removeprefix("stream "), str(threads), *cells, verdict])
    titles = ["features/units", "threads", "a step", "fastest other", "times", "reading the weights", "target"]
    return table(titles, rows)


def precision(found):
    """Return the table of weights in lower precision, beside onnxruntime's."""
    rows = []
    for name, record in found["cases"].items():
        for threads in (1, 2):
            times = {
                kind: _time(record, kind, threads)
                for kind in ("numbalstm", "numbalstm-bf16", "numbalstm-int8", "ort-int8")
            }
            if not (times["numbalstm-int8"] or times["numbalstm-bf16"]):
                continue
            errors = {kind: rows_by(record).get((kind, threads), {}).get("error") for kind in times}
            cells = [f"{unit(taken)} ({errors[kind]:.0e})" if taken else "-" for kind, taken in list(times.items())[1:]]
            verdict = "-"
            if times["numbalstm-int8"] and times["ort-int8"]:
                ahead = times["numbalstm-int8"] < times["ort-int8"]
                verdict = met(ahead and errors["numbalstm-int8"] <= errors["ort-int8"] / 2)
            whole = unit(times["numbalstm"]) if times["numbalstm"] else "-"
            rows.append([name, str(threads), whole, *cells, verdict])
    return table(["case", "threads", "float32", "bfloat16", "int8", "onnxruntime int8", "int8 target"], rows)


def everyone(found):
    """Return the table of all libraries: times, one thread / two."""
    names = [name for record in found["cases"].values() for name in peers_of(record, 1)]
    names = ["numbalstm", *dict.fromkeys(names)]
    rows = []
    for case, record in found["cases"].items():
        cells = []
        for name in names:
            taken = [_time(record, name, threads) for threads in (1, 2)]
            cells.append(" / ".join(unit(value) if value else "-" for value in taken) if any(taken) else "-")
        rows.append([case, *cells])
    return table(["case", *names], rows)


def variants(found):
    """Return the tables of variants.py, one for each section."""
    parts = []
    for name, section in found.get("variants", {}).items():
        if any("column" in row for row in section["rows"]):
            text = _by_column(section["rows"])
        else:
            rows = [[row["what"], figure(row["value"], row["unit"]), _target(row)] for row in section["rows"]]
            text = table(["what", "figure", "target"], rows)
        if "failed" in section:
            text += f"\nLeft out: {section['failed']}\n"
        parts.append(f"### {name[0].upper()}{name[1:]}\n\n{section['title']}\n\n{text.lstrip()}")
    return "\n".join(parts)


def _by_column(rows):
    """Return the table of figures that have the same target in several columns."""
    columns, lines = list(dict.fromkeys(row["column"] for row in rows)), {}
    for row in rows:
        lines.setdefault(row["what"], {})[row["column"]] = row
    cells = []
    for what, line in lines.items():
        figures = [figure(line[name]["value"], line[name]["unit"]) if name in line else "-" for name in columns]
        targets = sorted((_target(row) for row in line.values()), key=len)  # all the same, but for "not met"
        cells.append([what, *figures, targets[-1]])
    return table(["what", *columns, "target"], cells)


def figure(value, per):
    """Return a figure with its unit."""
    digits = f"{value:.0e}" if per == "" else f"{value:.2f}" if per in ("x", "s") else f"{value:.1f}"
    return digits + {"x": "×", "": ""}.get(per, f" {per}")


def _target(row):
    if "at_most" in row:
        return f"at most {row['at_most']:g}: {met(row['value'] <= row['at_most'])}"
    if "at_least" in row:
        return f"at least {row['at_least']:g}: {met(row['value'] >= row['at_least'])}"
    return "-"


def left_out(found):
    """Return the rows that are missing, and why."""
    missing = {}
    for name, record in found["cases"].items():
        for row in record["rows"]:
            if "failed" in row:
                missing.setdefault(f"{row['contender']}: {row['failed']}", []).append(name)
    lines = [f"- {why} ({', '.join(dict.fromkeys(names))})\n" for why, names in missing.items()]
    return "".join(lines) or "Nothing.\n"


def everything(found):
    """Return all that the page shows of a file of results."""
    parts = {
        "Where and how": machine(found),
        "Whole sequences": inference(found),
        "Single steps": streams(found),
        "Training": training(found),
        "Weights of lower precision": precision(found),
        "Every library": everyone(found),
        "Variants": variants(found),
        "Limits of the machine": machine_limits(found),
        "Left out": left_out(found),
    }
    return "\n".join(f"## {title}\n\n{text}" for title, text in parts.items() if text)
