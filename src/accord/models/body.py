"""The body of a request from a template: JSON with placeholders, or jinja2 that writes JSON.

A template that is JSON is filled string by string, so nothing in a question can break it; a
string that is one placeholder becomes the value itself, a list for `{{ passages }}`. Where it is
not JSON it is rendered as text, in which `{{ query | tojson }}` writes a string.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from accord.errors import InputError
from accord.models.template import FAILURES

PASSAGES = frozenset({"passages", "passage_ids"})
_ONE = re.compile(r"\s*\{\{((?:(?!\}\}|\{\{).)*)\}\}\s*", re.DOTALL)
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
_LEFT_OUT = object()


class Body:
    """A template of a request's body. `names` are the variables that it mentions.

    `where` begins the errors: InputError for what is neither JSON nor jinja2, at once.
    """

    def __init__(self, template: Any, where: str = "body") -> None:
        self.where = where
        self.text = template if isinstance(template, str) else json.dumps(template)
        try:
            self.tree, self.names = _compiled(json.loads(self.text))
            self.source: Template | None = None
        except ValueError:
            self.source, self.names = self._jinja(), _names(self.text)
        except TemplateError as error:
            raise InputError(f"{where}: {error}") from None

    def _jinja(self) -> Template:
        try:
            return _ENVIRONMENT.from_string(self.text)
        except TemplateError as error:
            raise InputError(f"{self.where}: neither JSON nor jinja2: {error}") from None

    @property
    def mentions_passages(self) -> bool:
        """Whether passages can be handed over by this template."""
        return bool(self.names & PASSAGES)

    def fill(self, values: Mapping[str, Any]) -> Any:
        """The body for `values`; a field that mentions a value of None is left out.

        Raises InputError for a variable that is not there and for text that is no JSON.
        """
        try:
            if self.source is None:
                return _filled(self.tree, values)
            return json.loads(self.source.render(values))
        except json.JSONDecodeError as error:
            raise InputError(
                f"{self.where}: renders to text that is not JSON ({error.msg}); write strings as "
                "{{ query | tojson }}, or the whole template as JSON"
            ) from None
        except FAILURES as error:
            known = ", ".join(sorted(values))
            raise InputError(
                f"{self.where}: cannot be rendered: {error}; there are {known}"
            ) from None


class _Leaf:
    """A string of the template, compiled."""

    def __init__(self, text: str) -> None:
        self.names = _names(text)
        alone = _ONE.fullmatch(text)
        self.value = (
            _ENVIRONMENT.compile_expression(alone[1], undefined_to_none=False)
            if alone
            else _ENVIRONMENT.from_string(text).render
        )

    def fill(self, values: Mapping[str, Any]) -> Any:
        if any(name in values and values[name] is None for name in self.names):
            return _LEFT_OUT
        value = self.value(values)
        if isinstance(value, StrictUndefined):
            str(value)  # raises UndefinedError, which names it
        return value


def read_body(text: str, where: str) -> Body:
    """A template as a command is given it: the JSON itself, or the name of a file."""
    if text.lstrip().startswith(("{", "[")):
        return Body(text, where)
    path = Path(text)
    try:
        return Body(path.read_text("utf-8-sig"), f"{where} {path}")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(
            f"{where}: `{text[:60]}` is no JSON and no file that can be read ({why.lower()})"
        ) from None


def _names(text: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(text)))


def _compiled(tree: Any) -> tuple[Any, frozenset[str]]:
    """The tree with its strings compiled, and the variables that they mention."""
    if isinstance(tree, str):
        # Most strings of a body say nothing of the question.
        leaf = _Leaf(tree) if "{" in tree else tree
        return leaf, leaf.names if isinstance(leaf, _Leaf) else frozenset()
    if isinstance(tree, dict):
        parts = {key: _compiled(value) for key, value in tree.items()}
        names = frozenset[str]().union(*(found for _, found in parts.values()))
        return {key: part for key, (part, _) in parts.items()}, names
    if isinstance(tree, list):
        found = [_compiled(value) for value in tree]
        return [part for part, _ in found], frozenset[str]().union(*(names for _, names in found))
    return tree, frozenset()


def _filled(tree: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(tree, _Leaf):
        return tree.fill(values)
    if isinstance(tree, dict):
        pairs = ((key, _filled(value, values)) for key, value in tree.items())
        return {key: value for key, value in pairs if value is not _LEFT_OUT}
    if isinstance(tree, list):
        found = (_filled(value, values) for value in tree)
        return [value for value in found if value is not _LEFT_OUT]
    return tree
