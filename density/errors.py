"""The project's one error type."""


class RarityError(ValueError):
    """Something the user can put right: the message says what was wrong, expected and got, and what to do."""
