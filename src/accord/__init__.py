"""accord: the same answer to the same question, however it is asked."""

__version__ = "0.1.0"
