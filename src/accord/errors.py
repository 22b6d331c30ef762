"""The errors a user can mend, and the exit code each one ends with."""


class AccordError(Exception):
    """Base of all errors that are shown as one sentence, without a traceback."""

    exit_code = 1


class InputError(AccordError):
    """Wrong usage, config or input data: names file, line or field and the way out."""

    exit_code = 2


class RunError(AccordError):
    """Something failed while running: the work done so far is kept."""

    exit_code = 1
