"""Detection of damaged networks on images without labels."""
