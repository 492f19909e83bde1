"""The price of a served model: the Open Inference Protocol over HTTP beside the model's own time."""
