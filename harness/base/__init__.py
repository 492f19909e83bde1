"""Files that appear whole, the user's folder, caches of predictions and of large arrays, and records read strictly."""

from harness.base.arrays import ArrayStore
from harness.base.cache import PredictionCache
from harness.base.files import locked, user_folder, write_atomically

__all__ = ["ArrayStore", "PredictionCache", "locked", "user_folder", "write_atomically"]
