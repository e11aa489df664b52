"""Checks of what widgets hold, before anything runs.

ComfyUI asks every node before it runs any. It shows the sentence of an error that is raised then in its message; of one that is
returned it says only that the node refused a value, and of one that is raised while the node runs only that the node failed.
"""


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
    if not any(value is None for value in values):
        check(*values)
    return True
