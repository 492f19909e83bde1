"""The claims of the study that the harness grew from, each with a measure, tested on many seeds of both models."""
