"""Cost of a cluster compared with one process, and a prediction for more nodes."""
