"""The buffer through which blocks exchange values, and the tags that tell one launch's words from all before."""

from typing import Any

LAST_TAG = (1 << 32) - 1


class Exchange:
    """Words of a value and a tag on one device. Tags grow from launch to launch, so the buffer is hardly ever cleared.

    Launches of one stream follow each other, so one buffer serves all.
    """

    def __init__(self) -> None:
        self._words: Any = None
        self._tag = 0

    def take(self, device: Any, count: int, steps: int) -> tuple[Any, int]:
        """Return a pointer to at least `count` words, and the tag after which a launch of `steps` steps begins."""
        if self._words is None or self._words.shape[0] < count or self._tag + steps > LAST_TAG:
            self._words, self._tag = device.zeros((count,), "uint64"), 0
        before = self._tag
        self._tag += steps
        return self._words.at(), before
