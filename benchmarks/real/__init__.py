"""Networks and amounts of data as people have them, at 224 px.

Measures the time and memory that the harness adds to plain loops.
"""
