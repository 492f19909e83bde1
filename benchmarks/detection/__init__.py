"""Detection power of the gate: bad checkpoints made on purpose, and what the gate says of each."""
