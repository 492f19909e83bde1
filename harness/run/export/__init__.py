"""An export of the images that a checks file asks about, for a system that predicts them elsewhere."""
