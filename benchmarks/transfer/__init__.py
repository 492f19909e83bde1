"""EfficientNet-Lite0 with its weights of ImageNet, fine-tuned on emoji of four vendors, and broken fine-tunings."""
