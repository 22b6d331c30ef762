"""Prompts: jinja2 templates in files, the shipped ones or the user's, rendered in a sandbox."""

from importlib import resources
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from accord.errors import InputError
from accord.models.template import FAILURES


class Ask:
    """A prompt template: the file at `path`, or the shipped file `name` where that is None.

    Raises InputError for a file that cannot be read or is no template.
    """

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.name = str(path or name)
        try:
            text = (path or resources.files("accord.vary").joinpath(name)).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.name}: the prompt cannot be read: {error}") from None
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        try:
            self._template: Template = environment.from_string(text)
        except TemplateError as error:
            raise InputError(f"{self.name}: not a valid jinja2 template: {error}") from None

    def render(self, **values: str | int) -> str:
        """The prompt. Raises InputError if the template fails on these values."""
        try:
            return self._template.render(**values)
        except FAILURES as error:
            raise InputError(f"{self.name}: cannot be rendered: {error}") from None
