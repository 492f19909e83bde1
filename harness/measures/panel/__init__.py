"""Reference panel in a run: its predictions, consensus-set errors, suspected label errors and paired incumbents."""
