"""Files that appear whole, the user's folder, the cache of predictions, and records read strictly."""

from harness.store.cache import PredictionCache
from harness.store.files import write_atomically
from harness.store.folder import user_folder
from harness.store.lock import alone

__all__ = ["PredictionCache", "alone", "user_folder", "write_atomically"]
