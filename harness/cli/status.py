"""What a command's exit status says."""

OK, NEGATIVE, REFUSED = 0, 1, 2
"""Done; done, and the answer is no; bad usage or input."""
