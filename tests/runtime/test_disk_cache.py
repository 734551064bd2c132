"""The compiled kernels on disk: used when they are good, replaced when they are not, and never a reason to fail."""

import errno
import hashlib
import os
import pickle
import time
from pathlib import Path

import pytest
from numba.core import config

from numbalstm.kernels import compilation

DAY = 24 * 60 * 60


def fresh(increment=1):
    """A kernel as a new process would have it: nothing compiled, nothing loaded."""

    @compilation.entry_point()
    def add(a):
        return a + increment

    return add


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of this version, still to be made."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    return compilation.folder()


def outcome(kernel):
    """Call a kernel; say whether it was loaded."""
    assert kernel(41) == 42
    return "loaded" if kernel.stats.cache_hits else "compiled"


def only_file(place):
    (file,) = place.iterdir()
    return file


def test_the_second_process_loads(place):
    assert outcome(fresh()) == "compiled"
    assert outcome(fresh()) == "loaded"
    assert fresh().stats.cache_path == str(place)


def test_captured_values_are_part_of_the_key(place):
    assert fresh(1)(41) == 42
    assert fresh(2)(41) == 43
    assert fresh(1)(41) == 42


def test_flush_and_disable(place):
    kernel = fresh()
    outcome(kernel)
    kernel._cache.flush()
    assert not list(place.iterdir())
    silent = fresh()
    silent._cache.disable()
    assert outcome(silent) == "compiled"
    assert not list(place.iterdir())


def signed(payload):
    return hashlib.sha256(payload).digest() + payload


def flipped(content, index):
    content = bytearray(content)
    content[index] ^= 1
    return bytes(content)


DAMAGE = {
    "empty": lambda content: b"",
    "digest cut": lambda content: content[:20],
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "flipped bit of the code": lambda content: flipped(content, len(content) // 2),
    "flipped bit of the digest": lambda content: flipped(content, 3),
    "another pickle": lambda content: signed(pickle.dumps((1, 2))),
    "a class that is gone": lambda content: signed(b"cno_such_module\nThing\n."),
    "no pickle": lambda content: signed(b"\x80\x05garbage"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_dropped_and_compiled_again(damage, place):
    outcome(fresh())
    file = only_file(place)
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    assert outcome(fresh()) == "compiled"
    assert outcome(fresh()) == "loaded"


def test_a_file_that_nobody_may_read_is_replaced(place):
    outcome(fresh())
    only_file(place).chmod(0)
    outcome(fresh())  # loaded, for root may read it
    only_file(place).chmod(0o600)
    assert outcome(fresh()) == "loaded"


def test_a_folder_in_the_place_of_a_file(place):
    outcome(fresh())
    file = only_file(place)
    file.unlink()
    file.mkdir()
    assert outcome(fresh()) == "compiled"
    assert only_file(place) == file  # nothing half-written beside it


def test_a_full_disk(place, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert outcome(fresh()) == "compiled"
    assert not list(place.iterdir())
    monkeypatch.undo()


def test_a_read_only_folder(place):
    outcome(fresh())
    place.chmod(0o500)
    try:
        assert outcome(fresh()) == "loaded"
        assert fresh()(41.0) == 42.0  # another signature, which cannot be written
    finally:
        place.chmod(0o700)


def test_a_file_in_the_place_of_the_folder(tmp_path, monkeypatch):
    file = tmp_path / "cache"
    file.write_text("")
    monkeypatch.setattr(config, "CACHE_DIR", str(file))
    assert outcome(fresh()) == "compiled"
    assert outcome(fresh()) == "compiled"
    assert compilation.refusal(compilation.folder())


def test_no_home(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(Path, "home", unknown)
    assert compilation.folder() is None
    assert outcome(fresh()) == "compiled"
    assert fresh().stats.cache_path == ""


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("which", ["folder", "folder above"])
@pytest.mark.parametrize("fault", ["writable by others", "of another user"])
def test_what_others_may_have_written_is_not_read(which, fault, place, tmp_path, monkeypatch):
    outcome(fresh())
    monkeypatch.setenv("BOMB", str(tmp_path / "went off"))
    only_file(place).write_bytes(signed(pickle.dumps(Bomb())))
    bad = place if which == "folder" else place.parent
    if fault == "writable by others":
        bad.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(bad, 12345, -1)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
    assert outcome(fresh()) == "compiled"
    assert not (tmp_path / "went off").exists()
    assert str(bad) in compilation.refusal(place) or fault == "of another user"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_folders_are_for_the_user_only(place):
    before = os.umask(0)
    try:
        outcome(fresh())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (place, place.parent)} == {0o700}
    assert only_file(place).stat().st_mode & 0o777 == 0o600


def test_versions_that_nobody_uses_are_removed(place):
    now = time.time()
    ages = {"0.0.1-cpython-311-numba0.61.0-aa": 40, "0.0.2-cpython-311-numba0.61.0-bb": 20, "something else": 400}
    for name, days in ages.items():
        folder = place.parent / name
        folder.mkdir(parents=True)
        (folder / "forward.nbc").write_bytes(b"x")
        os.utime(folder, (now - days * DAY,) * 2)
    outcome(fresh())
    left = {path.name for path in place.parent.iterdir()}
    assert left == {place.name, "0.0.2-cpython-311-numba0.61.0-bb", "something else"}


def test_a_folder_in_use_stays_young(place):
    outcome(fresh())
    os.utime(place, (time.time() - 10 * DAY,) * 2)
    assert outcome(fresh()) == "loaded"
    assert time.time() - place.stat().st_mtime < DAY


def test_the_folder_is_named_after_the_sources(tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    callee = tmp_path / "cpu" / "callee.py"
    callee.write_text("one = 1")
    monkeypatch.setattr(compilation, "__file__", str(tmp_path / "compilation.py"))
    names = []
    for text in ("one = 1", "one = 2"):
        callee.write_text(text)
        compilation.version.cache_clear()
        names.append(compilation.version())
    compilation.version.cache_clear()
    assert names[0] != names[1]
    assert names[0].rpartition("-")[0] == names[1].rpartition("-")[0]


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="XDG")
def test_the_default_is_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert compilation.root() == tmp_path / "xdg" / "numbalstm"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert compilation.root() == tmp_path / ".cache" / "numbalstm"
