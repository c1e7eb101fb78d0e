"""Why the program cannot start."""


class StartError(Exception):
    """The text is one line for the user: what was tried, and what is wrong with it."""
