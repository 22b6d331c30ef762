"""What the prompt templates of all stages share."""

from jinja2 import TemplateError

# What a template that jinja accepts can still raise while it is rendered.
FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
