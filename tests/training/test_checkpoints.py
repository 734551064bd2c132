"""Checkpoint files: what goes in comes out to the bit, and nothing but a whole file is ever at the path."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from numbalstm.models import checkpoints
from numbalstm.models.checkpoints import CheckpointError

CONTENT = {
    "nothing": None,
    "flag": True,
    "big": 2**100,
    "number": 0.1 + 0.2,
    "nested": [{"text": "ä", "list": [1, [2.5]]}, []],
}


def same(found, expected):
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and found == expected


def rewritten(path, change):
    """Replace the members of a checkpoint by what `change` makes of them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members = change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_what_goes_in_comes_out(tmp_path, rng):
    arrays = {
        "float64": rng.normal(size=(3, 5)),
        "float32": np.asfortranarray(rng.normal(size=(4, 3)).astype("float32")),
        "float16": rng.normal(size=7).astype("float16"),
        "int64": rng.integers(-9, 9, (2, 1, 3)),
        "bool": rng.random(5) < 0.5,
        "scalar": np.array(-0.0),
        "empty": np.empty((0, 4), "float32"),
        "strange": np.array([np.nan, np.inf, -np.inf, 5e-324]),
    }
    content = CONTENT | {"arrays": arrays, "listed": [arrays["float64"], {"again": arrays["int64"]}]}
    checkpoints.write(tmp_path / "new" / "folder" / "a.ckpt", content)
    assert same(checkpoints.read(tmp_path / "new" / "folder" / "a.ckpt"), content)


def test_arrays_that_are_read_can_be_written_to(tmp_path):
    checkpoints.write(tmp_path / "a", {"x": np.arange(4.0)})
    checkpoints.read(tmp_path / "a")["x"][0] = 7


def test_numpy_numbers_become_numbers(tmp_path):
    checkpoints.write(tmp_path / "a", {"x": np.float32(0.1), "n": np.int64(3), "t": (1, 2)})
    assert checkpoints.read(tmp_path / "a") == {"x": float(np.float32(0.1)), "n": 3, "t": [1, 2]}


@pytest.mark.parametrize("value", [object(), np.array(["text"]), np.array([None]), {1: 2}, {"__array__": 0}, 1j])
def test_nothing_else_is_written(tmp_path, value):
    checkpoints.write(tmp_path / "a", {"old": 1})
    with pytest.raises(TypeError, match="checkpoint"):
        checkpoints.write(tmp_path / "a", {"x": value})
    assert checkpoints.read(tmp_path / "a") == {"old": 1}
    assert os.listdir(tmp_path) == ["a"]


def test_links_are_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    checkpoints.write(tmp_path / "link", {"x": 1})
    assert (tmp_path / "link").is_symlink()
    assert checkpoints.read(tmp_path / "real") == {"x": 1}


@pytest.mark.parametrize("seed", range(6))
def test_damage_is_found(tmp_path, seed):
    rng = np.random.default_rng(seed)
    checkpoints.write(tmp_path / "a", CONTENT | {"x": rng.normal(size=(7, 9))})
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: rng.integers(0, len(whole))])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoints.read(tmp_path / "a")
    start = whole.index(b"\x93NUMPY") + 128  # in the numbers
    flipped = bytearray(whole)
    flipped[start + rng.integers(0, 400)] ^= 1 << rng.integers(0, 8)
    (tmp_path / "a").write_bytes(flipped)
    with pytest.raises(CheckpointError, match="CRC"):
        checkpoints.read(tmp_path / "a")


def about(**changes):
    def change(members):
        return members | {"about.json": json.dumps(json.loads(members["about.json"]) | changes).encode()}

    return change


def array_file(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (about(format="other"), "format is 'other'"),
        (about(version=2), "version 2"),
        (about(content=3), "no content"),
        (about(content={"x": {"__array__": 5}}), "5.npy"),
        (about(content={"x": {"__array__": "../0"}}), "invalid literal"),
        (lambda m: m | {"about.json": b"[" * 100_000}, "recursion"),
        (lambda m: m | {"0.npy": m["0.npy"] + b"1"}, "does not hold"),
        (lambda m: m | {"0.npy": m["0.npy"].replace(b"(2, 3)", b"(99999999, 9999999)")}, "0.npy|header"),
        (lambda m: m | {"0.npy": array_file(np.array([{"a": 1}], object), allow_pickle=True)}, "does not hold"),
    ],
)
def test_forged_files_are_refused(tmp_path, change, message):
    checkpoints.write(tmp_path / "a", {"x": np.ones((2, 3))})
    rewritten(tmp_path / "a", change)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(tmp_path / "a")


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.json", json.dumps({"format": checkpoints.FORMAT, "version": 1, "content": " " * 10**6}))
    with pytest.raises(CheckpointError, match="compressed"):
        checkpoints.read(tmp_path / "a")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "a")


def test_a_full_disk_raises_and_keeps_the_old_file(tmp_path):
    """A limit on the size of files fails in the same place and way as a disk without room."""
    path = tmp_path / "a"
    checkpoints.write(path, {"x": np.arange(10)})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.write(path, {"x": np.arange(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, previous)
    assert os.listdir(tmp_path) == ["a"]
    assert same(checkpoints.read(path), {"x": np.arange(10)})


def test_an_error_on_the_way_to_the_disk_keeps_the_old_file(tmp_path, monkeypatch):
    checkpoints.write(tmp_path / "a", {"x": 1})

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        checkpoints.write(tmp_path / "a", {"x": 2})
    assert os.listdir(tmp_path) == ["a"]
    assert checkpoints.read(tmp_path / "a") == {"x": 1}


def test_the_file_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: (steps.append("sync"), fsync(d)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("rename"), replace(a, b)))
    checkpoints.write(tmp_path / "a", {"x": 1})
    assert steps == ["sync", "rename", "sync"]  # the file, its name, the folder


def test_what_killed_processes_left_is_removed(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    (tmp_path / f".a.{done.pid}.part").write_bytes(b"half")
    kept = [f".a.{os.getppid()}.part", f".b.{done.pid}.part", ".a.x.part"]  # alive, another file's, no process
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    checkpoints.write(tmp_path / "a", {"x": 1})
    assert sorted(os.listdir(tmp_path)) == sorted(["a", *kept])


def test_is_checkpoint(tmp_path):
    checkpoints.write(tmp_path / "a", {})
    np.savez(tmp_path / "b.npz", x=1)
    (tmp_path / "c").write_bytes(b"text")
    assert [checkpoints.is_checkpoint(tmp_path / name) for name in ("a", "b.npz", "c")] == [True, False, False]
