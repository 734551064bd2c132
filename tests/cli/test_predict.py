"""`numbalstm predict`: the model's numbers, in every format; mistakes cost one line and leave nothing behind."""

import numpy as np
import pytest

import numbalstm as nl
from numbalstm import prediction


@pytest.fixture
def histories(rng):
    return rng.normal(size=(7, 104, 1)).astype("float32")


@pytest.fixture
def expected(folder, histories):
    return nl.load_model("model.keras").predict(histories, batch_size=3)


def test_npy_to_npy(run, histories, expected):
    np.save("x.npy", histories)
    status, out, err = run("predict", "model.keras", "x.npy", "-o", "y.npy", "--batch-size", 3, "--threads", 1)
    assert (status, err) == (0, "")
    assert "(7, 52)" in out
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_threads_are_for_this_command_only(run, histories, folder):
    np.save("x.npy", histories)
    before = nl.get_threads()
    run("predict", "model.keras", "x.npy", "-o", "y.npy", "--threads", before + 1)
    assert nl.get_threads() == before


def test_npz_and_csv_out(run, histories, expected):
    np.savez("x.npz", anything=histories)
    assert run("predict", "model.keras", "x.npz", "-o", "y.csv", "--batch-size", 3)[0] == 0
    np.testing.assert_array_equal(np.loadtxt("y.csv", delimiter=",", dtype="float32"), expected)
    assert run("predict", "model.keras", "x.npz", "-o", "y.npz", "--batch-size", 3)[0] == 0
    with np.load("y.npz") as written:
        assert len(written.files) == 1
        np.testing.assert_array_equal(written[written.files[0]], expected)


def test_csv_in(run, folder, histories, expected):
    text = "co2\n" + "\n".join(map(str, histories.ravel()))
    (folder / "x.csv").write_text(text)
    assert run("predict", "model.keras", "x.csv", "-o", "y.npy", "--timesteps", 104, "--batch-size", 3)[0] == 0
    np.testing.assert_array_equal(np.load("y.npy"), expected)
    assert run("predict", "model.keras", "x.csv", "-o", "whole.npy")[0] == 0
    whole = nl.load_model("model.keras").predict(histories.reshape(1, -1, 1))
    np.testing.assert_array_equal(np.load("whole.npy"), whole)


def test_no_sequences(run, folder):
    np.save("x.npy", np.zeros((0, 104, 1), "float32"))
    assert run("predict", "model.keras", "x.npy", "-o", "y.npy")[0] == 0
    assert np.load("y.npy").shape == (0, 52)


def test_several_inputs_and_outputs_by_name(run, golden):
    arrays = golden("seq2seq")
    model = nl.load_model("seq2seq.keras")
    inputs = {name: arrays[f"x{k}"] for k, name in enumerate(model.input_names)}
    np.savez("x.npz", extra=np.zeros(3), **dict(reversed(inputs.items())))
    assert run("predict", "seq2seq.keras", "x.npz", "-o", "y.npz", "--batch-size", 2)[0] == 0
    with np.load("y.npz") as written:
        assert written.files == list(model.output_names)
        for k, name in enumerate(model.output_names):
            np.testing.assert_allclose(written[name], arrays[f"y{k}"], rtol=1e-5, atol=1e-5)


def test_several_inputs_and_one_array(run, golden):
    x = golden("seq2seq")["x0"]
    np.save("x.npy", x)
    assert "2 inputs, give a .npz file with" in mistake(run, "seq2seq.keras", "x.npy", "-o", "y.npz")
    assert "2 outputs" in mistake(run, "seq2seq.keras", "x.npy", "-o", "y.npy")
    np.savez("x.npz", other=x)
    assert "the file holds other" in mistake(run, "seq2seq.keras", "x.npz", "-o", "y.npz")


def test_progress_is_told_block_by_block(folder, histories):
    np.save("x.npy", histories)
    told = []
    model = nl.load_model("model.keras")
    source, target = folder / "x.npy", folder / "y.npy"
    prediction.predict_file(model, source, target, batch_size=3, progress=lambda *counts: told.append(counts))
    assert told == [(3, 7), (6, 7), (7, 7)]


def mistake(run, *arguments):
    """Run a command line that must fail; return its one line without the name."""
    status, out, err = run("predict", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("numbalstm: error: ")
    assert err.count("\n") == 1
    return err


def test_mistakes(run, folder, histories):
    np.save("x.npy", histories)
    np.save("wide.npy", np.concatenate([histories, histories], axis=2))
    (folder / "wide.csv").write_text("1,2\n3,4\n")
    (folder / "broken.keras").write_bytes((folder / "model.keras").read_bytes()[:9000])
    before = sorted(path.name for path in folder.iterdir())
    y = ("-o", "y.npy")
    assert "No such file" in mistake(run, "none.keras", "x.npy", *y)
    assert "broken.keras" in mistake(run, "broken.keras", "x.npy", *y)
    assert "No such file" in mistake(run, "model.keras", "none.npy", *y)
    assert "must end in one of" in mistake(run, "model.keras", "x.npy", "-o", "y.txt")
    assert "must end in one of" in mistake(run, "model.keras", "x.json", *y)
    assert "(7, 104, 2)" in mistake(run, "model.keras", "wide.npy", *y)
    assert "(1, 2, 2)" in mistake(run, "model.keras", "wide.csv", *y)
    assert "do not make whole sequences of 3" in mistake(run, "model.keras", "wide.csv", *y, "--timesteps", 3)
    assert "--timesteps is for .csv" in mistake(run, "model.keras", "x.npy", *y, "--timesteps", 3)
    assert "none" in mistake(run, "model.keras", "x.npy", "-o", "none/y.npy")
    assert "--batch-size" in mistake(run, "model.keras", "x.npy", *y, "--batch-size", 0)
    assert "required: -o/--output" in mistake(run, "model.keras", "x.npy")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_older_output_is_kept_without_force(run, folder, histories, expected):
    np.save("x.npy", histories)
    (folder / "y.npy").write_text("old")
    assert "--force" in mistake(run, "model.keras", "x.npy", "-o", "y.npy")
    assert (folder / "y.npy").read_text() == "old"
    assert run("predict", "model.keras", "x.npy", "-o", "y.npy", "--force", "--batch-size", 3)[0] == 0
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_interrupted_run_leaves_nothing(run, folder, histories, monkeypatch):
    np.save("x.npy", histories)
    before = sorted(path.name for path in folder.iterdir())
    put = prediction._Store.put

    def put_and_stop(store, start, outputs):
        put(store, start, outputs)
        if start:
            raise KeyboardInterrupt

    monkeypatch.setattr(prediction._Store, "put", put_and_stop)
    status, _, err = run("predict", "model.keras", "x.npy", "-o", "y.npy", "--batch-size", 3)
    assert (status, err) == (130, "numbalstm: interrupted\n")
    assert sorted(path.name for path in folder.iterdir()) == before
