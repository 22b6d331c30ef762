"""A question and its passages as one user turn, by the template that the models of a run get."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.models.prompt import load_template
from accord.models.template import FAILURES


def prompter(template: Path | None) -> Callable[[str, Sequence[Mapping[str, Any]]], str]:
    """A function of a query and its passages (mappings with `id`, `text`, `title`).

    Nothing is cut: how long a prompt may be is known to the endpoint alone. Raises InputError for
    a template that cannot be read; the function does for one that cannot be rendered.
    """
    loaded = load_template(template)

    def prompt(query: str, passages: Sequence[Mapping[str, Any]]) -> str:
        try:
            return loaded.render(query=query, passages=passages).strip()
        except FAILURES as error:
            raise InputError(f"--prompt: cannot be rendered: {error}") from None

    return prompt
