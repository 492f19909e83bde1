"""Reports: pages of sections, summaries, figures; from recorded results only, no model runs here."""
