"""Features that nothing else needs: each is a folder with hooks; without it, the rest runs."""
