"""The claims of the study that the harness grew from, each with a measure, held against many seeds of both models."""
