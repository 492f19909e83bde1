"""A soak test of the gate: random runs, held to one promise."""
