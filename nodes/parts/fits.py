"""Checks of the values of widgets, before anything runs.

ComfyUI asks every node to check its values before it runs any node. A newer page shows the sentence of an error that is
raised in this check. Of an error that is returned it says only that the node refused a value, and of an error that is raised
while a node runs it says only that the node failed. An older page shows the sentence of an error that is raised while a node
runs. It shows nothing of a node that refused a value, if another part of the graph can run. With an older page nothing is
checked before the run.
"""

from . import frontend

SAYS_WHY = (1, 49)


def fits(check, *values):
    """Check the values of widgets. A widget that has a link has no value yet; then nothing is checked.

    Parameters
    ----------
    check : Callable
        Raises a RarityError unless the values can be used.
    values
        The arguments of `check`. None stands for a widget with a link, or for a value that a script's graph leaves out.

    Returns
    -------
    bool
        True, for `validate_inputs` of a node to return.
    """
    if frontend.version() >= SAYS_WHY and not any(value is None for value in values):
        check(*values)
    return True
