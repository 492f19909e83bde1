"""A run of the gate: models in roles, self-checks, evidence, examples, the outcome."""
