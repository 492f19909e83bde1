"""The claims of the study that the harness grew from, each with a measure.

They are tested on many seeds of both models.
"""
