"""Files that appear whole, the user's folder, and the cache of predictions."""
