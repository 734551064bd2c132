"""Files of arrays: read exactly, refused with the place of the mistake, written whole or not at all."""

import os

import numpy as np
import pytest

from numbalstm import datafiles


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_without_header(tmp_path):
    table = datafiles.read(write(tmp_path / "a.csv", "1,2.5,-3\n4,1e-3,nan\n"))
    np.testing.assert_array_equal(table, [[1, 2.5, -3], [4, 1e-3, np.nan]])


def test_csv_header_empty_lines_and_byte_order_mark(tmp_path):
    table = datafiles.read(write(tmp_path / "a.CSV", '\ufeffx,"y, z"\n\n1,2\n\n3,4\n'))
    np.testing.assert_array_equal(table, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,x\n", r"a\.csv: line 3, column 2: expected a number, got 'x'"),
        ("1958-03-29,316.1\n", r"line 1, column 1: expected a number, got '1958-03-29'"),
        ("a,b\n1,2\n3\n", r"line 3: expected 2 columns, got 1"),
        ("1,\n", r"line 1, column 2: expected a number, got ''"),
        ("a,b\n", r"no numbers in this file"),
        ("", r"no numbers in this file"),
        ('1,2\n"3\n', r"line 3, column 1|expected 2 columns"),
    ],
)
def test_csv_mistakes_are_located(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        datafiles.read(write(tmp_path / "a.csv", text))


def test_csv_that_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80" * 10)
    with pytest.raises(ValueError, match=r"a\.csv: .*utf-8"):
        datafiles.read(tmp_path / "a.csv")


def test_npy_is_mapped(tmp_path, rng):
    values = rng.normal(size=(5, 3, 2))
    np.save(tmp_path / "a.npy", values)
    found = datafiles.read(tmp_path / "a.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, values)


def test_npz_by_name(tmp_path, rng):
    values = {"x": rng.normal(size=(2, 3)), "ids": np.arange(4)}
    np.savez(tmp_path / "a.npz", **values)
    found = datafiles.read(tmp_path / "a.npz")
    assert list(found) == ["x", "ids"]
    np.testing.assert_array_equal(found["x"], values["x"])


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pickled_objects_are_refused(tmp_path, name):
    save = np.save if name == "a.npy" else np.savez
    save(tmp_path / name, np.array([{"a": 1}, None], object))
    with pytest.raises(ValueError, match=r"not a readable .np[yz] file: .*(allow_pickle|Python objects)"):
        datafiles.read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("data", [b"", b"garbage", b"\x93NUMPY\x01\x00v\x00{'descr'", b"PK\x03\x04 and then nothing"])
def test_broken_files(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="not a readable"):
        datafiles.read(tmp_path / name)


def test_only_real_numbers(tmp_path):
    np.save(tmp_path / "a.npy", np.array(["x", "y"]))
    with pytest.raises(ValueError, match=r"a\.npy: must hold real numbers, got dtype <U1"):
        datafiles.read(tmp_path / "a.npy")


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"a\.txt: the name must end in one of \.npy, \.npz, \.csv"):
        datafiles.read(tmp_path / "a.txt")


def test_replacing_leaves_one_whole_file(tmp_path):
    target = tmp_path / "a.txt"
    with datafiles.replacing(target, force=False) as unfinished:
        assert unfinished.parent == tmp_path
        unfinished.write_text("new")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "new"


def stop_writing(path, error):
    path.write_text("ne")
    raise error


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_replacing_stopped_half_way(tmp_path, stop):
    target = write(tmp_path / "a.txt", "old")
    with pytest.raises(stop), datafiles.replacing(target, force=True) as unfinished:
        stop_writing(unfinished, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_replacing_needs_force(tmp_path):
    target = write(tmp_path / "a.txt", "old")
    with pytest.raises(FileExistsError, match="--force"), datafiles.replacing(target, force=False):
        pytest.fail("the block must not run")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_replacing_in_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError), datafiles.replacing(tmp_path / "a.txt", force=False):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (2, 4, 3)])
def test_csv_round_trip_is_exact(tmp_path, rng, dtype, shape):
    values = (rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape)).astype(dtype)
    datafiles.write_csv(tmp_path / "a.csv", values)
    found = datafiles.read_csv(tmp_path / "a.csv").astype(dtype)
    np.testing.assert_array_equal(found, values.reshape(-1, shape[-1] if len(shape) > 1 else 1))
