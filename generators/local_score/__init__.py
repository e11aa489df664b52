"""New pictures from a folder of pictures, without a network."""
