"""Accuracy against references, agreement over wordings, and how much of it is noise."""
