"""What `fit` and `evaluate` are given, as batches: arrays cut and shuffled, or what a generator yields."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from numbalstm import checks
from numbalstm.backends.arguments import as_array
from numbalstm.layers.symbolic import is_shape
from numbalstm.models import targets
from numbalstm.models.inputs import in_order

DEFAULT_BATCH = 32


class Batch(NamedTuple):
    """Some samples; each list has an entry for every input or output of the model."""

    inputs: list[np.ndarray]
    targets: list[np.ndarray | None]
    weights: list[np.ndarray | None]

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.inputs[0])

    def map(self, function: Any) -> "Batch":
        """Return a batch of what `function` makes of each array."""
        return Batch(*([None if array is None else function(array) for array in arrays] for arrays in self))


def build(model: Any, x: Any, size: int | None) -> None:
    """Build a model that is not built yet for the data, `size` samples at a time; None: all."""
    if not model.built:
        shape = model.shapes_of(x)
        model.build((min(size or shape[0], shape[0]), *shape[1:]) if shape and is_shape(shape) else shape)


def make_batch(model: Any, x: Any, y: Any = None, sample_weight: Any = None, *, size: int | None = None) -> Batch:
    """Return what a caller gave as one batch; a model that is not built yet is built for it.

    Parameters
    ----------
    model : BaseModel
    x : array, list of arrays or dict by input name
    y, sample_weight : array, list of arrays or dict by output name, optional
    size : int, optional
        Samples per update, which stateful layers are built for.  None: all.

    Raises
    ------
    ValueError
        When a name or number of arrays is wrong, or the numbers of samples differ.
    """
    build(model, x, size)
    names = model.input_names
    inputs = in_order(model.place, x, model.inputs, names)
    arrays = [as_array(model.place, f"input {name!r}", item) for name, item in zip(names, inputs, strict=True)]
    batch = Batch(arrays, targets.in_order(model, "y", y), targets.in_order(model, "sample_weight", sample_weight))
    _check_samples(model, batch)
    return batch


def weighted(model: Any, batch: Batch, class_weight: Any) -> Batch:
    """Return a batch with the weights of its classes, if `class_weight` is not None."""
    if class_weight is None:
        return batch
    if any(weight is not None for weight in batch.weights):
        raise ValueError(f"{model.place}: give either sample_weight or class_weight, not both.")
    return batch._replace(weights=targets.class_weights(model, batch.targets, class_weight))


def _check_samples(model: Any, batch: Batch) -> None:
    names = [f"input {name!r}" for name in model.input_names]
    names += [f"{kind} for {name!r}" for kind in ("y", "sample_weight") for name in model.output_names]
    arrays = [array for arrays in batch for array in arrays]
    counts = {}
    for name, array in zip(names, arrays, strict=True):
        if array is not None:
            if array.ndim == 0:
                raise ValueError(f"{model.place}: {name} must have samples along its first axis, got a single number.")
            counts[name] = len(array)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise ValueError(f"{model.place}: all arrays must have one number of samples, got {listed}.")


def is_arrays(x: Any) -> bool:
    """Return whether `x` holds the inputs themselves, and not batches of them."""
    return (
        hasattr(x, "shape") or isinstance(x, (list, tuple, Mapping)) or (not hasattr(x, "__iter__") and not _is_map(x))
    )


def _is_map(x: Any) -> bool:
    return hasattr(x, "__len__") and hasattr(x, "__getitem__")


class Arrays:
    """Batches cut from whole arrays.

    Parameters
    ----------
    batch : Batch
        All samples.
    size : int
        Samples per batch; the last batch may have fewer.
    """

    restarts = True

    def __init__(self, batch: Batch, size: int) -> None:
        self.batch, self.size = batch, size
        self.steps = -(-batch.size // size)

    def batches(self, random: np.random.Generator | None, skip: int) -> Iterator[Batch]:
        """Yield the batches of one pass but for the first `skip`, in a random order of the samples with `random`."""
        total = self.batch.size
        order = None if random is None else random.permutation(total)
        for start in range(skip * self.size, total, self.size):
            part = slice(start, start + self.size)
            yield self.batch.map(lambda array, rows=part if order is None else order[part]: array[rows])


class Batches:
    """Batches that an iterable yields as x, (x,), (x, y) or (x, y, sample_weight).

    Parameters
    ----------
    model : BaseModel
    source : iterable, or object with ``__len__`` and ``__getitem__``
    class_weight : mapping of int to float, optional
    """

    def __init__(self, model: Any, source: Any, class_weight: Any = None) -> None:
        self.model, self.source, self.class_weight = model, source, class_weight
        self.restarts = not hasattr(source, "__iter__") or iter(source) is not source
        self.steps = len(source) if hasattr(source, "__len__") else None

    def batches(self, random: np.random.Generator | None, skip: int) -> Iterator[Batch]:
        """Yield the batches of one pass but for the first `skip`."""
        source = self.source if hasattr(self.source, "__iter__") else (self.source[i] for i in range(self.steps or 0))
        for number, item in enumerate(source):
            if number >= skip:
                yield weighted(self.model, make_batch(self.model, *_parts(self.model, item)), self.class_weight)


def _parts(model: Any, item: Any) -> tuple:
    if not isinstance(item, (list, tuple)):
        return (item,)
    if not 1 <= len(item) <= 3:
        raise ValueError(f"{model.place}: a batch must be x, (x, y) or (x, y, sample_weight), got {len(item)} items.")
    return tuple(item)


class Feed:
    """The batches of epoch after epoch, from any batch on.

    Parameters
    ----------
    place : str
        Opens messages.
    source : Arrays or Batches
    steps : int, optional
        Batches of an epoch; the next epoch goes on where the last one stopped.  None: one pass through the source.
    random : numpy.random.Generator, optional
        Shuffles every pass.  None: no shuffling.
    """

    def __init__(
        self, place: str, source: Any, steps: int | None = None, random: np.random.Generator | None = None
    ) -> None:
        self.place, self.source, self.random = place, source, random
        self._whole = steps is None
        self.steps = source.steps if steps is None else checks.positive_integer(place, "steps_per_epoch", steps)
        self._pass: Iterator[Batch] | None = None
        self._passes = self._taken = 0
        self._start = self._random_state()

    def _random_state(self) -> Any:
        return None if self.random is None else self.random.bit_generator.state

    def state(self) -> dict[str, Any]:
        """Return where this is: batches taken of this pass, and the random numbers at its start."""
        return {"taken": self._taken, "random": self._start, "steps": self.steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where a feed of the same data was when it gave this `state`; ValueError when it was not the same."""
        if state["steps"] != self.steps:
            raise ValueError(f"{self.place}: an epoch had {state['steps']} batches, and has {self.steps} now.")
        if (state["random"] is None) != (self.random is None):
            raise ValueError(f"{self.place}: shuffle must be what it was.")
        if self.random is not None:
            self.random.bit_generator.state = state["random"]
        self._taken = checks.integer(self.place, "taken", state["taken"], minimum=0)
        self._start = self._random_state()
        if self._taken:
            self._begin(self._taken)

    def _begin(self, skip: int = 0) -> None:
        if self._passes and not self.source.restarts:
            raise ValueError(
                f"{self.place}: the generator is used up after {self._taken} batches. Give steps_per_epoch and a "
                "generator without end, or an object that can be gone through again."
            )
        self._start, self._taken, self._passes = self._random_state(), skip, self._passes + 1
        self._pass = self.source.batches(self.random, skip)

    def restart(self) -> None:
        """Let the next epoch start with the first batch, if the source can start again."""
        if self.source.restarts:
            self._pass, self._taken = None, 0

    def epoch(self, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, of which `done` have been used."""
        if self._whole:
            yield from self._rest_of_pass(done)
            return
        for _ in range(done, self.steps):
            batch = self._next()
            if batch is None:
                self._begin()
                batch = self._next()
            if batch is None:
                raise ValueError(f"{self.place}: there are no batches.")
            yield batch

    def _rest_of_pass(self, done: int) -> Iterator[Batch]:
        if not done or self._pass is None:
            self._begin(done)
        count = done
        while (batch := self._next()) is not None:
            count += 1
            yield batch
        if not count:
            raise ValueError(f"{self.place}: there are no batches.")
        if self.source.restarts:  # the next pass starts with these random numbers
            self._pass, self._taken, self._start = None, 0, self._random_state()

    def _next(self) -> Batch | None:
        batch = None if self._pass is None else next(self._pass, None)
        self._taken += batch is not None
        return batch


def batch_size(model: Any, given: int | None, total: int | None, steps: int | None = None) -> int:
    """Return the samples per batch; a stateful model's fixed batch size must be met, and by every batch.

    Raises
    ------
    TypeError, ValueError
        When it is no positive integer, or does not suit a stateful model.
    """
    fixed = next((t.shape[0] for t in model.inputs if t.shape[0] is not None), None) if model.stateful else None
    if given is None:
        from_steps = -(-total // steps) if steps and total else DEFAULT_BATCH
        given = fixed or max(from_steps, 1)
    size = checks.positive_integer(model.place, "batch_size", given)
    if fixed is not None and size != fixed:
        raise ValueError(f"{model.place}: is made for a batch size of {fixed}, got batch_size={size}.")
    if fixed is not None and total is not None and total % fixed:
        raise ValueError(f"{model.place}: is made for a batch size of {fixed}, which does not divide {total} samples.")
    return size


def split(model: Any, batch: Batch, share: float) -> tuple[Batch, Batch]:
    """Return the samples before and after the last `share` of them, as Keras' ``validation_split``.

    Raises
    ------
    ValueError
        When `share` is outside [0, 1), or one of the two parts would be empty.
    """
    share = checks.fraction(model.place, "validation_split", share)
    border = int(np.floor(batch.size * (1.0 - share)))
    if border in (0, batch.size):
        raise ValueError(
            f"{model.place}: validation_split={share:g} of {batch.size} samples leaves nothing to "
            f"{'train' if border == 0 else 'validate'} on."
        )
    return batch.map(lambda array: array[:border]), batch.map(lambda array: array[border:])
