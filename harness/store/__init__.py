"""Files that appear whole, the user's folder, caches of predictions and of large arrays, and records read strictly."""

from harness.store.arrays import ArrayStore
from harness.store.cache import PredictionCache
from harness.store.files import write_atomically
from harness.store.folder import user_folder
from harness.store.lock import alone

__all__ = ["ArrayStore", "PredictionCache", "alone", "user_folder", "write_atomically"]
