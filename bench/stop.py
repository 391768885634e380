"""The one error of the benches: something they need is not there, and a sentence says what."""


class Stop(Exception):
    """What is missing, and how to bring it."""
