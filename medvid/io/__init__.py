"""A path -> a `Stack`. The only room that knows file formats and patient axes.

Each format's library is imported when a file of that format is met, not before.
"""

from medvid.io.open import open_stack

__all__ = ["open_stack"]
