"""The gate asks on the way whether a sample still is the subject, and decides what follows from a No."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError, quoted
from ..base.progress import Progress
from ..base.tensors import ordinary

ON_NO = ("step back", "stop", "go on")
MOST_BACK = 3  # refusals in a row after which no other way is tried


class Gate:
    """Asks whether embeddings still are the subject, and says what follows from a No.

    `notes` are sentences for the user about the judge that answers.

    Parameters
    ----------
    ask : (embeddings [N], progress or None) -> P(yes) of each, [N].   subject : what is asked about, in words.
    every : steps between two questions.   threshold : a P(yes) of at least this is a Yes.
    on_no : "step back" returns to the last valid point and tries another way from there; "stop" returns and stays
        there; "go on" ignores the No.

    Raises
    ------
    RarityError : numbers out of range, an unknown on_no, no subject.
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
        """P(yes) of each of N embeddings, [N] float64. An exception raised by `progress` cancels the question.

        Raises
        ------
        RarityError : the answers are not one probability for each embedding.
        """
        found = ordinary(self._ask(embeddings, progress))
        if found.shape != (len(embeddings),) or not ((found >= 0) & (found <= 1)).all():
            raise RarityError(
                f"A judge of {quoted(self.subject)} must answer with one probability for each of {len(embeddings)} pictures, "
                f"got shape {tuple(found.shape)} with values {found.flatten()[:4].tolist()}."
            )
        return found

    def never(self, whose: str, validity: Tensor) -> str:
        """A sentence for the user if no answer was a Yes: the P(yes) that were seen [N], and what to do."""
        low, middle, high = float(validity.min()), float(validity.mean()), float(validity.max())
        return (
            f"The gate does not take {whose} for {quoted(self.subject)}: P(yes) of {len(validity)} pictures is {low:.3g} to "
            f"{high:.3g}, {middle:.3g} on average, and {self.threshold:g} is asked for. Look at these pictures; name the "
            "subject as the prompt does, lower the threshold, or let another judge decide."
        )


class Pullback:
    """What follows from a gate's answers where all samples change together.

    Samples change together while a model learns, or while a condition is steered. An iteration is valid if the samples'
    mean P(yes) reaches the threshold.
    """

    def __init__(self, gate: Gate):
        self.gate, self.refused, self.in_a_row = gate, [], 0

    def follow(self, iteration: int, validity: Tensor) -> str:
        """What to do after an iteration whose samples have these P(yes) [N]: "keep", "step back" or "stop".

        Raises
        ------
        RarityError : the first answer is a No, so that there is nothing to go back to.
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
        """A sentence: where the gate said No, and what followed; "" if it never did. `last` : last kept iteration."""
        if not self.refused:
            return ""
        places = ", ".join(f"{iteration} ({mean:.3g})" for iteration, mean in self.refused)
        said = f"The gate said No to {quoted(self.gate.subject)} at iteration {places}, below P(yes) of {self.gate.threshold:g}"
        if self.gate.on_no == "go on":
            return f"{said}, and it went on: those checkpoints are not valid."
        ended = self.gate.on_no == "stop" or self.in_a_row == MOST_BACK
        went = "" if self.gate.on_no == "stop" else ", each time back to what was valid, with half the steps"
        return f"{said}{went}. What is kept ends with iteration {last}{', where it was stopped' if ended else ''}."
