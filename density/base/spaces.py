"""Which space an embedding lives in: two spaces are the same, or using them together is an error."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .errors import RarityError

KINDS = ("raw", "unit", "std")
MAX_WIDTH = 65_536
_FIELDS = {"encoder": str, "fingerprint": str, "width": int, "kind": str}


@dataclass(frozen=True)
class EmbeddingSpace:
    """The encoder that made an embedding and the scaling it is kept in.

    Parameters
    ----------
    encoder : name for people, such as "Kandinsky 2.2 prior".
    fingerprint : digest of the encoder's weights. An equal width is not enough: two encoders 1280 wide share nothing.
    width : number of dimensions d.
    kind : "raw" as the prior leaves it, "unit" scaled to length one, "std" standardised per dimension.

    Raises
    ------
    RarityError : a field has the wrong type or range.
    """

    encoder: str
    fingerprint: str
    width: int
    kind: str = "raw"

    def __post_init__(self):
        for name, expected in _FIELDS.items():
            value = getattr(self, name)
            if type(value) is not expected:
                raise RarityError(
                    f"An embedding space's {name} must be {expected.__name__}, got {type(value).__name__} {value!r}."
                )
            if expected is str and not 0 < len(value) <= 300:
                raise RarityError(f"An embedding space's {name} must have 1 to 300 characters, got {len(value)}.")
        if not 1 <= self.width <= MAX_WIDTH:
            raise RarityError(f"An embedding space's width must be 1 to {MAX_WIDTH:,}, got {self.width}.")
        if self.kind not in KINDS:
            raise RarityError(f"An embedding space's kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")

    def __str__(self) -> str:
        return f"{self.encoder} ({self.kind}, {self.width} wide, {self.fingerprint[:12]})"

    def require_same(self, other: EmbeddingSpace, what: str) -> None:
        """Raise a RarityError unless `other` is this very space; `what` names the other side in the error."""
        if self == other:
            return
        raise RarityError(
            f"The {what} and this belong to different embedding spaces. Expected {self}, got {other}. "
            "Both must be made by one and the same model: make one of them anew with the model of the other."
        )

    def to_dict(self) -> dict:
        """The four fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields) -> EmbeddingSpace:
        """The inverse of `to_dict`; anything else is a RarityError."""
        if not isinstance(fields, dict) or set(fields) != set(_FIELDS):
            got = sorted(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
            raise RarityError(f"An embedding space needs exactly the fields {sorted(_FIELDS)}, got {got}.")
        return cls(**fields)
