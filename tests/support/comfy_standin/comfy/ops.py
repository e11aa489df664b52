"""Stand-in: imported only."""
