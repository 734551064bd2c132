"""Write the tables and the pictures of the documentation from a file of results.

    python benchmarks/compare/report.py                     of this machine
    python benchmarks/compare/report.py results-NAME.json   of another one, beside this script
    python benchmarks/compare/report.py --check             say whether page and pictures are those of the file

Nothing is measured here. The tables go between the markers of docs/reference/performance.md, the pictures to
docs/images. A test holds that both are what this script makes of the file that the page names.
"""

import hashlib
import re
import sys
from pathlib import Path

import results
import tables

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "performance.md"
PICTURES = {kind: ROOT / "docs" / "images" / f"performance-{kind}.png" for kind in ("peers", "roofline")}
BLOCK = re.compile(r"<!-- generated from (\S+) -->\n.*?<!-- end -->\n", re.DOTALL)


def digest(path):
    """Return what tells one state of a file of results from another."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def block(path):
    """Return the generated part of the page, markers included."""
    return f"<!-- generated from {path.name} -->\n{tables.everything(results.load(path))}<!-- end -->\n"


def outdated():
    """Return the names of the page and the pictures that are not those of the file that the page names."""
    found = BLOCK.search(PAGE.read_text())
    path = results.FOLDER / found[1]
    if not path.exists():
        return [path.name]
    same = {PAGE: found[0] == block(path)}
    same |= {picture: f"results {digest(path)}".encode() in picture.read_bytes() for picture in PICTURES.values()}
    return [file.name for file, is_same in same.items() if not is_same]


def write(path):
    """Write page and pictures."""
    import figures

    found = results.load(path)
    figures.draw_peers(found, PICTURES["peers"], digest(path))
    figures.draw_roofline(found, PICTURES["roofline"], digest(path))
    PAGE.write_text(BLOCK.sub(lambda _: block(path), PAGE.read_text()))
    print(f"written: {PAGE.relative_to(ROOT)} and {len(PICTURES)} pictures, from {path.name}")


def main(arguments):
    """Write, or check."""
    if arguments == ["--check"]:
        wrong = outdated()
        raise SystemExit(f"run report.py again for {', '.join(wrong)}" if wrong else 0)
    path = results.FOLDER / arguments[0] if arguments else results.default_path()
    if not path.exists():
        raise SystemExit(f"{path} does not exist: run peers.py first, or name another file.")
    write(path)


if __name__ == "__main__":
    main(sys.argv[1:])
