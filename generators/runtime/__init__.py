"""What models run on: work that a graphics card repeats without Python."""
