"""Keeps the one decoded volume that is being read.

A gzipped volume has no random access, so reading it frame by frame needs it whole; but a stack
that was read once must not hold its volume for the rest of its life.
"""

import threading
import weakref
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray


class HeldVolume:
    """Loads a volume when it is called, and holds it until another one is loaded.

    A process thus keeps one decoded volume at most, and none once its stack is gone. Reading two
    gzipped volumes in turns, frame by frame, decodes them again and again: read more frames at
    once, or use the store.

    Args:
        load: decodes the volume.
    """

    def __init__(self, load: Callable[[], NDArray[Any]]) -> None:
        self._load = load

    def __call__(self) -> NDArray[Any]:
        """Returns the volume, decoded anew only if another one was loaded since."""
        volume = _held.get(self)
        if volume is None:
            volume = self._load()
            with _lock:
                _held.clear()
                _held[self] = volume
        return volume


_held: weakref.WeakKeyDictionary[HeldVolume, NDArray[Any]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()
