"""What is kept on disk. A file is checked before its content is used."""
