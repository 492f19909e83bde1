"""What a cluster costs beside one process, and what that says of more nodes than there are here."""
