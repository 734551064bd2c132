"""What a training loop calls on its way, with the names, arguments and behaviour of Keras' callbacks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from numbalstm import checks


class Callback:
    """Base of all callbacks: override what should happen when.

    Attributes
    ----------
    model : Model or Sequential
        The model that is trained; set ``model.stop_training = True`` to end after the present batch.
    params : dict
        ``verbose``, ``epochs``, ``steps`` (None where unknown) and ``initial_epoch``, the first epoch of this call.

    Notes
    -----
    `logs` are floats by name: the loss and the metrics, with ``val_`` before those of the validation.  In a resumed
    run `on_train_begin` is called, then `load_state`; `on_epoch_begin` is not called for an epoch in whose middle the
    run goes on.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Take the model; called before everything else."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take what is known about the run."""
        self.params = params

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold so that the callback goes on: nested values and arrays."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Run when `fit` starts."""

    def on_train_end(self, logs: Any = None) -> None:
        """Run when `fit` ends; `logs` are those of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Run before the first batch of an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Run after the last batch of an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Run before a training step; batches count from 0 in every epoch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Run after a training step; `logs` are the means over the epoch so far."""

    def on_test_begin(self, logs: Any = None) -> None:
        """Run when `evaluate`, or a validation, starts."""

    def on_test_end(self, logs: Any = None) -> None:
        """Run when `evaluate`, or a validation, ends."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Run before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Run after a batch of an evaluation."""


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


class CallbackList:
    """Several callbacks as one: a hook of this calls the hook of each, in order.

    Parameters
    ----------
    callbacks : sequence of Callback
    model : Model or Sequential
    params : dict
        See `Callback`.

    Raises
    ------
    TypeError
        When something is no callback.
    """

    def __init__(self, callbacks: Iterable[Any], model: Any, params: dict[str, Any]) -> None:
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"{model.place}: callbacks must be callbacks, got {checks.describe(callback)}.")
            callback.set_model(model)
            callback.set_params(params)

    def __getattr__(self, hook: str) -> Callable[..., None]:
        if hook not in HOOKS:
            raise AttributeError(hook)
        methods = [getattr(callback, hook) for callback in self.callbacks]
        count = 2 if "batch" in hook or "epoch" in hook else 1  # functions of users have no default for the logs

        def call(*args: Any) -> None:
            for method in methods:
                method(*args, *[None] * (count - len(args)))

        return call


class LambdaCallback(Callback):
    """A callback of functions.

    Parameters
    ----------
    **hooks : callable
        By the name of the hook: ``on_epoch_end=lambda epoch, logs: ...`` and so on.

    Raises
    ------
    ValueError
        When there is no hook of a name.
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        super().__init__()
        for name, function in hooks.items():
            if name not in HOOKS:
                raise checks.unknown("LambdaCallback", "hook", name, HOOKS)
            setattr(self, name, function)
