"""What several nodes share: sockets, folders, progress, placement."""
