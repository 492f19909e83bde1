"""The price of a served model.

The Open Inference Protocol over HTTP beside the model's own time.
"""
