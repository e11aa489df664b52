"""Words and low-rank additions that a prior learns, so that all it makes is rare."""
