"""Turn a score into bits and "1 in N", by samples that the density has not learnt from."""
