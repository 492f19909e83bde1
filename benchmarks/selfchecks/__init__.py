"""Self-checks on healthy models: how many runs they end without a verdict."""
