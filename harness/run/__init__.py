"""What a gate run works with and what it comes to: models in roles, self-checks, evidence, cases, the outcome."""
