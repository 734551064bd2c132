"""compile, fit, evaluate, and steps by hand, for every model."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numbalstm import checks, optimizers
from numbalstm.callbacks import Callback, CallbackList, History, ModelCheckpoint
from numbalstm.callbacks.progress import reporter
from numbalstm.models import batches, steps
from numbalstm.models.batches import Arrays, Batch, Batches, Feed, make_batch
from numbalstm.models.interrupts import Interrupts
from numbalstm.models.loop import Fit, evaluate
from numbalstm.models.objective import Objective
from numbalstm.models.saving import Saved


class _Compiled(NamedTuple):
    loss: Any
    loss_weights: Any
    metrics: Any
    weighted_metrics: Any


class Trainer(Saved):
    """The part of a model that trains it.

    Attributes
    ----------
    optimizer : Optimizer or None
        From `compile`.
    history : History or None
        Of the latest `fit`.
    stop_training : bool
        Set it in a callback to end `fit` after the present batch.
    """

    history: History | None = None
    stop_training: bool = False
    _compiled: _Compiled | None = None
    _objective: Objective | None = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
    ) -> None:
        """Say how to train.

        Parameters
        ----------
        optimizer : str, Optimizer or config, default "rmsprop"
        loss : str, Loss, callable or config; or a list, or dict by output name, of these and None
            One for all outputs, or one for each.  An output with None has no loss.
        loss_weights : float, or list or dict of floats, optional
            Factors of the losses in their sum.  None: 1.
        metrics, weighted_metrics : list of str, Metric or callable; or a list or dict of such lists by output, optional
            What is reported beside the loss; `weighted_metrics` heed sample weights.

        Raises
        ------
        ValueError
            For an unknown name, or a list or dict that does not fit the outputs.

        Notes
        -----
        Compiling again starts with the new optimizer's state; weights stay.
        """
        self.optimizer = optimizers.get(optimizer)
        self._compiled = _Compiled(loss, loss_weights, metrics, weighted_metrics)
        self._objective = None
        if self.built:
            self.objective  # noqa: B018 - so that mistakes are found here

    @property
    def objective(self) -> Objective:
        """The losses and metrics; ValueError before `compile`."""
        if self._compiled is None:
            raise ValueError(f"{self.place}: is not compiled; call compile(optimizer, loss) first.")
        if self._objective is None:
            self._objective = Objective(self.place, self.output_names, *self._compiled)
        return self._objective

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in that order."""
        return list(self.objective.logs())

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | None = None,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        *,
        seed: int | None = None,
        tbptt: int | None = None,
        resume: str | os.PathLike | None = None,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array, list or dict of arrays, or an iterable of batches
            Samples along the first axis.  An iterable yields ``(x, y)`` or ``(x, y, sample_weight)``.
        y : array, list or dict of arrays, optional
            Targets; they come from the iterable where `x` is one.
        batch_size : int, optional
            Samples per update.  None: 32, or what a stateful model was made for.
        epochs : int, default 1
            Number of the last epoch, counted from 1; `initial_epoch` ones are left out.
        verbose : {"auto", 0, 1, 2}, default "auto"
            1 draws a progress bar on the error stream if that is a terminal (extra `cli`), 2 prints a line for each
            epoch, 0 nothing.  "auto": 1 on a terminal, else 0.
        callbacks : list of Callback, optional
        validation_split : float in [0, 1), default 0
            The last part of the samples is not trained on, but validated.
        validation_data : (x, y), (x, y, sample_weight) or an iterable of batches, optional
        shuffle : bool, optional
            Draw a new order of the samples for each epoch.  None: yes, but not for stateful models, whose batches
            continue each other.
        class_weight : dict of int to float, optional
            A weight for the samples of each class; 1 for those not named.
        sample_weight : array, or list or dict of arrays by output, optional
            A weight for each sample, or each sample and step.
        initial_epoch : int, default 0
            Epoch to start with, counted from 0.
        steps_per_epoch, validation_steps : int, optional
            Batches that make an epoch or a validation.  None: one pass.
        validation_batch_size : int, optional
            None: `batch_size`.
        validation_freq : int or list of int, default 1
            Validate every so many epochs, or after these (counted from 1).
        seed : int, optional
            Of the shuffling.  None: another order in each run.
        tbptt : int, optional
            Truncated backpropagation: each batch is cut along time into windows of so many steps, with an update for
            each; a window starts from the state that the one before left, and batches from zeros.  All recurrent
            layers must be stateful.
        resume : path, optional
            A checkpoint of `ModelCheckpoint`: go on with the run that it was saved in, at the very batch.  Data,
            compilation, other arguments and callbacks must be those of that run; then the result is the same to the
            bit.  An iterator must be given anew, from its start.

        Returns
        -------
        History
            ``.history`` has a list of values for each loss and metric, ``.epoch`` the epochs, ``.plot()`` draws them.

        Raises
        ------
        NonFiniteError
            When the loss or a gradient is NaN or infinite; the weights are those before.
        CheckpointError
            When `resume` is damaged or fits neither the model nor the callbacks.
        ValueError
            When arguments do not fit the model or each other.

        Notes
        -----
        Ctrl-C ends the training after the present batch, with the weights of that moment: the history's `interrupted`
        is then true.  A second Ctrl-C interrupts at once.
        """
        self._require_compiled()
        if batches.is_arrays(x):
            samples = make_batch(self, x, y, sample_weight, size=batch_size or batches.DEFAULT_BATCH)
            if validation_split and validation_data is None:
                samples, validation_data = batches.split(self, samples, validation_split)
            samples = batches.weighted(self, samples, class_weight)
            size = batches.batch_size(self, batch_size, samples.size, steps_per_epoch)
            source: Any = Arrays(samples, size)
        else:
            self._check_iterable(
                y=y,
                sample_weight=sample_weight,
                batch_size=batch_size,
                shuffle=shuffle or None,
                validation_split=validation_split or None,
            )
            source, size = Batches(self, x, class_weight), None
        random = np.random.default_rng(seed) if self._shuffles(shuffle) and isinstance(source, Arrays) else None
        feed = Feed(self.place, source, steps_per_epoch, random)
        validation = self._validation(validation_data, validation_batch_size or size, validation_steps)
        content = None if resume is None else self._loaded(resume)
        start = checks.integer(self.place, "initial_epoch", initial_epoch, minimum=0)
        reports = reporter(self.place, verbose)
        params = {
            "verbose": verbose,
            "epochs": checks.integer(self.place, "epochs", epochs, minimum=0),
            "steps": feed.steps,
            "initial_epoch": start if content is None else content["run"]["epoch"],
            "resumed": content is not None,
        }
        called = CallbackList(self._ordered(callbacks, reports), self, params)
        self.history = next(callback for callback in called.callbacks if isinstance(callback, History))
        validates = _validates(self.place, validation_freq)
        tbptt = steps.check_truncated(self, tbptt)
        self._fit = Fit(self, feed, called, epochs, start, validation, validates, tbptt)
        try:
            return self._fit.run(None if content is None else content["run"])
        finally:
            self._fit = None
            if reports is not None:
                reports.close()

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the losses and metrics for some data.

        Parameters
        ----------
        x, y, batch_size, verbose, sample_weight, callbacks
            As for `fit`.
        steps : int, optional
            Batches to use.  None: all.
        return_dict : bool, default False
            Return a dict by name.

        Returns
        -------
        float, list of float or dict
            The loss alone, or a list in the order of `metrics_names`.

        Raises
        ------
        ValueError
            When arguments do not fit the model or each other.
        """
        self._require_compiled()
        data = x if not batches.is_arrays(x) else (x, y, sample_weight)
        if data is x:
            self._check_iterable(y=y, sample_weight=sample_weight, batch_size=batch_size)
        feed = self._validation(data, batch_size, steps)
        reports = reporter(self.place, verbose)
        params = {"verbose": verbose, "epochs": 1, "steps": feed.steps, "initial_epoch": 0, "resumed": False}
        called = CallbackList(self._ordered(callbacks, reports), self, params)
        try:
            return self._returned(evaluate(self, feed, called, Interrupts()), return_dict)
        finally:
            if reports is not None:
                reports.close()

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Update the weights once, from one batch.

        Parameters
        ----------
        x, y, sample_weight, class_weight
            As for `fit`.
        return_dict : bool, default False
            Return a dict by name.

        Returns
        -------
        float, list of float or dict
            Losses and metrics of this batch before the update; as `evaluate`.

        Raises
        ------
        NonFiniteError
            When the loss or a gradient is NaN or infinite; nothing has changed then.
        ValueError
            When arguments do not fit the model or each other.
        """
        self._require_compiled()
        batch = batches.weighted(self, make_batch(self, x, y, sample_weight), class_weight)
        self.objective.reset()
        steps.train(self, batch)
        return self._returned(self.objective.logs(), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Return the losses and metrics of one batch.

        Parameters
        ----------
        x, y, sample_weight
            As for `fit`.
        return_dict : bool, default False
            Return a dict by name.

        Returns
        -------
        float, list of float or dict
            As `evaluate`.

        Raises
        ------
        ValueError
            When arguments do not fit the model or each other.
        """
        self._require_compiled()
        batch = make_batch(self, x, y, sample_weight)
        self.objective.reset()
        steps.test(self, batch)
        return self._returned(self.objective.logs(), return_dict)

    # Details

    def _require_compiled(self) -> None:
        if self._compiled is None:
            raise ValueError(f"{self.place}: is not compiled; call compile(optimizer, loss) first.")

    def _check_iterable(self, **given: Any) -> None:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{self.place}: {name} does not go with an iterable of batches as x.")

    def _shuffles(self, shuffle: bool | None) -> bool:
        if shuffle and self.stateful:
            raise ValueError(f"{self.place}: the batches of a stateful model continue each other; leave shuffle=False.")
        return not self.stateful if shuffle is None else bool(shuffle)

    def _validation(self, data: Any, size: int | None, limit: int | None) -> Feed | None:
        """Return a feed of data to evaluate: a Batch, (x, y[, sample_weight]), or an iterable of batches."""
        if data is None:
            return None
        if isinstance(data, (tuple, list)) and not isinstance(data, Batch):
            data = make_batch(self, *data, size=size or batches.DEFAULT_BATCH)
        if not isinstance(data, Batch):
            return Feed(self.place, Batches(self, data), limit)
        return Feed(self.place, Arrays(data, batches.batch_size(self, size, data.size)), limit)

    def _ordered(self, callbacks: Any, reports: Callback | None) -> list[Any]:
        """Return what the caller gave, the history, the progress, and last what saves all of their states."""
        given = [] if callbacks is None else list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        histories = [callback for callback in given if isinstance(callback, History)] or [History()]
        savers = [callback for callback in given if isinstance(callback, ModelCheckpoint)]
        others = [callback for callback in given if not isinstance(callback, (History, ModelCheckpoint))]
        return [*others, *histories, *([] if reports is None else [reports]), *savers]

    def _returned(self, logs: dict[str, float], return_dict: bool) -> Any:
        values = list(logs.values())
        return logs if return_dict else values[0] if len(values) == 1 else values


def _validates(place: str, frequency: Any) -> Any:
    """Return whether an epoch, counted from 0, is followed by a validation."""
    if isinstance(frequency, (list, tuple, set, frozenset)):
        return lambda epoch: epoch + 1 in frequency
    every = checks.positive_integer(place, "validation_freq", frequency)
    return lambda epoch: (epoch + 1) % every == 0
