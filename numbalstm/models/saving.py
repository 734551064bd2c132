"""Checkpoints of a model in training."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from numbalstm import checks
from numbalstm.models import checkpoints, snapshot
from numbalstm.models.checkpoints import CheckpointError


class Saved:
    """The part of a model that saves its training and takes it back."""

    optimizer: Any = None
    _fit: Any = None

    def save_checkpoint(self, path: str | os.PathLike, weights_only: bool = False) -> None:
        """Write a checkpoint: weights, optimizer, random states, and during `fit` where the run is.

        Parameters
        ----------
        path : str or path
            Replaced when it exists, by a file that is complete and on disk; a kill at any moment leaves one of the two.
        weights_only : bool, default False

        Raises
        ------
        OSError
            When the file cannot be written; what was at `path` is still there.
        ValueError
            When the model is not built.
        """
        self.graph  # noqa: B018 - raises when the model is not built
        content: dict[str, Any] = {"model": snapshot.model_state(self, weights_only)}
        if not weights_only:
            optimizer = self.optimizer
            state = None if optimizer is None else {"class": type(optimizer).__name__, "state": optimizer.state()}
            content |= {"optimizer": state, "run": None if self._fit is None else self._fit.state()}
        checkpoints.write(path, content)

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Take weights, optimizer and random states from a checkpoint; the model is compiled as it was.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        CheckpointError
            When the file is damaged, or of another model or optimizer; nothing has changed then.
        OSError
            When it cannot be read.
        """
        self._load(path, checkpoints.read(path))

    def load_weights(self, path: str | os.PathLike) -> None:
        """Take the weights from a checkpoint or a file of Keras, see `numbalstm.load_weights`.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        CheckpointError, ModelFileError
            When the file is damaged or does not fit; nothing has changed then.
        OSError
            When it cannot be read.
        """
        if checkpoints.is_checkpoint(path):
            content = checkpoints.read(path)
            with checkpoints.understood(path):
                snapshot.load_weights(self, content["model"])
        else:
            # By name: models are below files in this package, and this method is only a convenience.
            import_module("numbalstm.io").load_weights(self, path)

    def _loaded(self, path: Any) -> dict[str, Any]:
        content = checkpoints.read(path)
        if content.get("run") is None:
            raise CheckpointError(
                f"{os.fspath(path)}: holds no run to go on with; load_checkpoint or load_weights read it."
            )
        with checkpoints.understood(path):
            checks.integer(self.place, "epoch", content["run"]["epoch"], minimum=0)
        self._load(path, content)
        return content

    def _load(self, path: Any, content: Mapping[str, Any]) -> None:
        if "optimizer" not in content:
            raise CheckpointError(f"{os.fspath(path)}: holds only weights; load_weights reads it.")
        self.graph  # noqa: B018 - raises when the model is not built
        with checkpoints.understood(path):
            saved, optimizer = content["optimizer"], self.optimizer
            names = [None if saved is None else saved["class"], None if optimizer is None else type(optimizer).__name__]
            if names[0] != names[1]:
                raise CheckpointError(
                    f"{os.fspath(path)}: was saved with the optimizer {names[0]}, the model has {names[1]}."
                )
            snapshot.check(self, content["model"])
            before = snapshot.model_state(self), None if optimizer is None else optimizer.state()
            try:
                self._set_state(content["model"], None if optimizer is None else saved["state"])
            except BaseException:
                self._set_state(*before)
                raise

    def _set_state(self, model: Mapping[str, Any], optimizer: Mapping[str, Any] | None) -> None:
        if optimizer is not None:
            self.optimizer.load_state(optimizer)
            self.optimizer.check_weights(self.trainable_weights)
        snapshot.load_model_state(self, model)
