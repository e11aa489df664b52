"""Words and low-rank additions that a prior learns, so that everything it makes is rare."""
