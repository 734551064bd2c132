"""Reading a file of results: which time of a row counts, and the fastest of the others."""

from contenders import CONTENDERS


def rows_by(record):
    """Return the rows of a case by (contender, threads)."""
    return {(row["contender"], row["threads"]): row for row in record["rows"]}


def placement(record):
    """Return where the host had the two cores in most rounds: "near" or "apart", or None where that was not probed."""
    with_two = [row for row in record["rows"] if row["threads"] == 2 and "median" in row]
    counts = {place: sum(place in row for row in with_two) for place in ("near", "apart")}
    return max(counts, key=counts.get) if any(counts.values()) else None


def seconds(record, row):
    """Return the time of a row: with two threads that at the case's placement of the cores, so that like meets like."""
    return row.get(placement(record), row["median"]) if row["threads"] == 2 else row["median"]


def peers_of(record, threads):
    """Return the time of every other library in full precision, at its best with up to so many threads, by name."""
    best = {}
    if not any(row["threads"] == threads for row in record["rows"]):
        return best
    for row in record["rows"]:
        name = row["contender"]
        if "median" in row and row["threads"] <= threads and not name.startswith("numbalstm"):
            if not CONTENDERS[name].loose:
                best[name] = min(seconds(record, row), best.get(name, float("inf")))
    return best


def best_peer(record, threads):
    """Return (name, seconds) of the fastest other library with up to so many threads."""
    return min(peers_of(record, threads).items(), key=lambda item: item[1])
