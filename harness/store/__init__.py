"""Files that appear whole, the user's folder, caches of predictions and of large arrays, and records read strictly."""

from harness.store.arrays import ArrayStore
from harness.store.cache import PredictionCache
from harness.store.files import alone, user_folder, write_atomically

__all__ = ["ArrayStore", "PredictionCache", "alone", "user_folder", "write_atomically"]
