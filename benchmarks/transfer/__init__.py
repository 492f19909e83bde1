"""EfficientNet-Lite0 of ImageNet, fine-tuned on emoji of four vendors, well and badly."""
