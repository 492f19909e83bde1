"""Features of the command line that nothing else needs: without the folder of one, the rest runs as before."""
