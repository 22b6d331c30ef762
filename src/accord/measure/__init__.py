"""Evaluation of answers from anywhere: files or run folders in, scores and verdicts out."""
