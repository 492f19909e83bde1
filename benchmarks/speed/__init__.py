"""How fast the harness is: ratios against peers, measured in one run on the same model, images and threads."""
