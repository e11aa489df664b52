"""The gate: is this still the subject? Asked on the way, and what follows from a No."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError, quoted
from ..base.tensors import ordinary

ON_NO = ("step back", "stop", "go on")
MOST_BACK = 3  # a way that was refused so often, one after the other, is given up

Progress = Callable[[int, int], None]


class Gate:
    """Asks of embeddings on their way whether they are still the subject, and says what a No is to mean.

    `notes` are what the user should know about whoever answers, in sentences.

    Parameters
    ----------
    ask : (embeddings [N], progress or None) -> P(yes) of each, [N].   subject : what is asked about, in words.
    every : steps between two times it asks.   threshold : P(yes) from here on is a Yes.
    on_no : "step back" to what was valid last and on from there another way, "stop" there, or "go on", as if nothing were.

    Raises
    ------
    RarityError : numbers out of range, another on_no, no subject.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        ask: Callable[[Embeddings, Progress | None], Tensor],
        subject: str,
        every: int = 25,
        threshold: float = 0.5,
        on_no: str = "step back",
    ):
        if not subject.strip():
            raise RarityError("A gate needs a subject to ask about, such as 'a letter R'; got none.")
        if every < 1 or not 0 < threshold < 1:
            raise RarityError(
                f"A gate asks every 1 step or more, with a threshold above 0 and below 1; got {every} and {threshold}."
            )
        if on_no not in ON_NO:
            raise RarityError(f"After a No a gate has one of {', '.join(ON_NO)}; got {on_no!r}.")
        self._ask, self.subject = ask, subject.strip()
        self.every, self.threshold, self.on_no = int(every), float(threshold), on_no

    def validity_of(self, embeddings: Embeddings, progress: Progress | None = None) -> Tensor:
        """P(yes) of each of N embeddings, [N] float64. What `progress` raises cancels the asking.

        Raises
        ------
        RarityError : the answers are not one probability each.
        """
        found = ordinary(self._ask(embeddings, progress))
        if found.shape != (len(embeddings),) or not ((found >= 0) & (found <= 1)).all():
            raise RarityError(
                f"A judge of {quoted(self.subject)} must answer with one probability for each of {len(embeddings)} pictures, "
                f"got shape {tuple(found.shape)} with values {found.flatten()[:4].tolist()}."
            )
        return found

    def never(self, whose: str, validity: Tensor) -> str:
        """In words: there was no Yes at all, what was seen [N], and what to do."""
        low, middle, high = float(validity.min()), float(validity.mean()), float(validity.max())
        return (
            f"The gate does not take {whose} for {quoted(self.subject)}: P(yes) of {len(validity)} pictures is {low:.3g} to "
            f"{high:.3g}, {middle:.3g} on average, and {self.threshold:g} is asked for. Look at these pictures; name the "
            "subject as the prompt does, lower the threshold, or let another judge decide."
        )


class Pullback:
    """What follows from a gate's answers about samples that change as one: those of a model that learns, of a steered condition.

    The samples are valid where their mean P(yes) reaches the threshold.
    """

    def __init__(self, gate: Gate):
        self.gate, self.refused, self.in_a_row = gate, [], 0

    def follow(self, iteration: int, validity: Tensor) -> str:
        """"keep", "step back" or "stop" after what was said of the samples [N] of an iteration.

        Raises
        ------
        RarityError : it was No at the very start, so that there is nothing to go back to.
        """
        mean, first = float(validity.mean()), iteration == 0
        if mean >= self.gate.threshold:
            self.in_a_row = 0
            return "keep"
        self.refused.append((iteration, mean))
        if self.gate.on_no == "go on":
            return "keep"
        if first:
            raise RarityError(self.gate.never("even what the model makes by itself", validity))
        self.in_a_row += 1
        return "stop" if self.gate.on_no == "stop" or self.in_a_row == MOST_BACK else "step back"

    def note(self, last: int) -> str:
        """In words: where it said No, and what came of it; "" where it never did. `last` is the last one kept."""
        if not self.refused:
            return ""
        places = ", ".join(f"{iteration} ({mean:.3g})" for iteration, mean in self.refused)
        said = f"The gate said No to {quoted(self.gate.subject)} at iteration {places}, below P(yes) of {self.gate.threshold:g}"
        if self.gate.on_no == "go on":
            return f"{said}, and it went on: those checkpoints are not valid."
        ended = self.gate.on_no == "stop" or self.in_a_row == MOST_BACK
        went = "" if self.gate.on_no == "stop" else ", each time back to what was valid, with half the steps"
        return f"{said}{went}. What is kept ends with iteration {last}{', where it was stopped' if ended else ''}."
