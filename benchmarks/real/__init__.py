"""Real networks and real amounts of data: what a run needs of memory and time, in ratios where machines differ."""
