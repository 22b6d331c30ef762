"""Answers from every model to every test wording, greedy, without losing one."""
