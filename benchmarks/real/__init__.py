"""Networks and amounts of data as people have them, at 224 px.

What the harness adds to plain loops.
"""
