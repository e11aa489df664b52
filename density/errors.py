"""The project's one error type."""


class RarityError(ValueError):
    """Something the user can put right. The message says what was wrong, what was expected, what was got, what to do."""
