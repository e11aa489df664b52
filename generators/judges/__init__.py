"""Who says whether a picture still is the subject."""
