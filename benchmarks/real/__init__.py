"""Networks and amounts of data as people have them, at 224 px: what the harness adds to plain loops."""
