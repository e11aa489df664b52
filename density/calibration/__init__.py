"""From a score to bits and "1 in N", by samples that were not learnt from."""
