"""Features that nothing else needs: each is a folder with hooks, and without it the rest runs as before."""
