"""Components: typed functions with keyword-only options, registered by name.

The signature of a component is the schema of its options: in `{type: bm25, k1: 1.5}` everything
after `type` must be a keyword-only parameter of the function registered as `bm25`, of its type.
Third parties register theirs from a module named by an entry point of the group `accord`.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from accord.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

# Where the built-in components of each kind live. Importing these loads no torch.
_HOMES = {
    "variations": (
        "accord.vary.rules",
        "accord.vary.number",
        "accord.vary.reframe",
        "accord.vary.surface",
        "accord.vary.typo",
        "accord.vary.paraphrase",
    ),
    "retrievers": (
        "accord.retrieve.bm25",
        "accord.retrieve.dense",
        "accord.retrieve.hybrid",
        "accord.retrieve.remote",
        "accord.retrieve.callables",
    ),
    "losses": ("accord.train.losses",),
    "methods": ("accord.merge.methods",),
    "weightings": ("accord.weigh.weights",),
    "similarities": ("accord.weigh.similarity",),
    "metrics": ("accord.evaluate.metrics", "accord.evaluate.containment"),
    "backends": (
        "accord.generate.transformers",
        "accord.generate.openai",
        "accord.generate.vllm",
    ),
}
KINDS = tuple(_HOMES)
_SINGULAR = {"similarities": "similarity", "losses": "loss"}


@dataclass(frozen=True)
class Component:
    """A registered function and the name that configs know it by."""

    kind: str
    name: str
    function: Callable[..., Any]

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options a config may give: the keyword-only parameters that have a default."""
        parameters = inspect.signature(self.function).parameters.values()
        return {
            p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty
        }

    @property
    def described(self) -> list[str]:
        """Each option as `name: type = default`, for people."""
        hints = get_type_hints(self.function)
        return [
            f"{n.rstrip('_')}: {_type_name(hints[n])} = {p.default!r}"
            for n, p in self.options.items()
        ]


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


_components: dict[tuple[str, str], Component] = {}


def register(kind: str, name: str) -> Callable[[F], F]:
    """Decorator: make a function known as the component `name` of `kind`."""

    def decorate(function: F) -> F:
        _components[kind, name] = Component(kind, name, function)
        return function

    return decorate


@cache
def _load(kind: str) -> None:
    for module in _HOMES[kind]:
        importlib.import_module(module)
    for entry_point in entry_points(group="accord"):
        entry_point.load()


def components(kind: str) -> dict[str, Component]:
    """All components of a kind by name."""
    _load(kind)
    return {name: c for (k, name), c in sorted(_components.items()) if k == kind}


def component(kind: str, name: str, where: str) -> Component:
    """The component `name`; raises InputError naming the nearest right one."""
    known = components(kind)
    if name not in known:
        raise InputError(
            f"{where}: no {_SINGULAR.get(kind, kind[:-1])} `{name}`; {suggest(name, known)}"
        )
    return known[name]


def check_options(found: Component, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options for `found`, validated against its signature, defaults left to the function.

    An option whose name is a word of Python (`lambda`) is a parameter with `_` at its end.
    Raises InputError naming the option, what was found and what would be right.
    """
    hints = get_type_hints(found.function, include_extras=True)
    checked = {}
    for given, value in options.items():
        name = f"{given}_" if f"{given}_" in found.options else given
        if name not in found.options:
            raise InputError(
                f"{where}.{name}: `{found.name}` has no such option; {suggest(name, found.options)}"
            )
        try:
            adapter = TypeAdapter(hints[name], config=ConfigDict(strict=False))
            checked[name] = adapter.validate_python(value)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise InputError(
                f"{where}.{name}: found {value!r}; {message[:1].lower()}{message[1:]}"
            ) from None
    return checked


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean ...?` for the nearest of `known`, else the list of them."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    if not known:
        return "it has no options"
    return "one of " + ", ".join(f"`{k}`" for k in known) + " is wanted"
