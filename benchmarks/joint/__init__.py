"""One number for the whole profile of a network's deviations.

Rules, what they detect, and their false alarms.
"""
