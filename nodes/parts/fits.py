"""Checks of what widgets hold, before anything runs.

ComfyUI asks every node before it runs any. A newer page shows the sentence of an error that is raised then in its message; of one
that is returned it says only that the node refused a value, and of one that is raised while the node runs only that the node
failed. An older page shows what is raised while a node runs, and nothing at all of a node that is refused before, if another
part of the graph can run: there nothing is checked before.
"""

from . import frontend

SAYS_WHY = (1, 49)


def fits(check, *values):
    """Let a check look at what widgets hold; of a widget with a link in its place nothing is known yet.

    Parameters
    ----------
    check : Callable
        Raises RarityError unless the values can be used.
    values
        What it takes; None of a widget that has a link, or that a script's graph leaves out.

    Returns
    -------
    bool
        True: what `validate_inputs` of a node returns.
    """
    if frontend.version() >= SAYS_WHY and not any(value is None for value in values):
        check(*values)
    return True
