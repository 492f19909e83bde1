"""Reports: pages of sections, summaries, figures.

From recorded results only, no model runs here.
"""
