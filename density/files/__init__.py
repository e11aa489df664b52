"""What is kept on disk, checked before anything is believed."""
