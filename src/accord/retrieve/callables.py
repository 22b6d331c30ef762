"""Any Python callable as a retriever, LangChain's and LlamaIndex' among them.

Neither package is imported: an object with `invoke` or `retrieve` is asked by it, anything else is
called. It is the user's code, so whatever it raises for a query is that query's failure.
"""

import builtins
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from accord.errors import InputError
from accord.records import Passage, Ranked
from accord.registry import register
from accord.retrieve.received import Failure

WHERE = "retrieve.callable"
_METHODS = ("invoke", "retrieve")  # of LangChain's retrievers, and of LlamaIndex'
_MOST = 10_000  # results read of an iterator, which may have no end


class Target(NamedTuple):
    """What is asked, and whether it wants to be told `k`."""

    ask: Callable[..., Any]
    wants_k: bool


@register("retrievers", "python")
def python(
    passages: Sequence[Passage],
    queries: Sequence[str],
    *,
    k: int,
    callable: str = "",
    folder: Path | None = None,
    id_field: str | None = None,
) -> Iterator[list[Any] | Failure]:
    """Your own: `module:attribute`, a function of the query or a LangChain or LlamaIndex retriever.

    Yields for each query, in order, what the callable gives: ids of passages, (id, score), mappings
    with `id`, `text`, `score`, texts, or documents. A parameter named `k` gets k. The module is
    looked for in `folder`, in the current folder and among what is installed. `id_field` names the
    field of a document's metadata that holds the passage's id.

    Raises InputError if there is no such callable, or if it cannot be called with a query.
    """
    target = find_target(callable, folder)
    for query in queries:
        yield _ask(target, query, k, id_field)


def find_target(name: str, folder: Path | None) -> Target:
    """The callable that `module:attribute` names; raises InputError if there is none."""
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        shown = f"found `{name}`; " if name else ""
        raise InputError(f"{WHERE}: {shown}`module:attribute` is wanted, such as `my_search:find`")
    found: Any = _imported(module, folder)
    for part in path.split("."):
        if not hasattr(found, part):
            raise InputError(f"{WHERE}: `{module}` has no `{path}`")
        found = getattr(found, part)
    return _target(found, name)


def source(name: str, folder: Path | None) -> Path | None:
    """The file of the module that holds the callable, if it is one and can be found."""
    module = name.partition(":")[0]
    if not module.replace(".", "").isidentifier():
        return None
    file = Path(*module.split("."))
    for home in _homes(folder):
        for path in (home / file.with_suffix(".py"), home / file / "__init__.py"):
            if path.is_file():
                return path
    return None


def _homes(folder: Path | None) -> list[Path]:
    return [*([folder] if folder else []), Path.cwd()]


def _imported(module: str, folder: Path | None) -> Any:
    before = list(sys.path)
    sys.path[:0] = [str(home) for home in _homes(folder)]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise InputError(f"{WHERE}: importing `{module}` fails: {error}") from error
        raise InputError(
            f"{WHERE}: no module `{module}` in {' or '.join(map(str, _homes(folder)))} or among "
            "what is installed; name its folder with `retrieve.folder`"
        ) from None
    except Exception as error:  # the user's module may raise anything
        raise InputError(f"{WHERE}: importing `{module}` fails: {_said(error)}") from error
    finally:
        sys.path[:] = before


def _target(found: Any, name: str) -> Target:
    if not inspect.isclass(found):
        for method in _METHODS:
            if builtins.callable(getattr(found, method, None)):
                return Target(getattr(found, method), False)
    if inspect.isclass(found) or not builtins.callable(found):
        kind = "a class" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise InputError(
            f"{WHERE}: `{name}` is {kind}; a function of the query, or an object with `invoke` "
            "(LangChain) or `retrieve` (LlamaIndex) is wanted"
        )
    if inspect.iscoroutinefunction(found):
        raise InputError(f"{WHERE}: `{name}` is a coroutine; a plain function is wanted")
    return Target(found, _wants_k(found, name))


def _wants_k(function: Callable[..., Any], name: str) -> bool:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # a function of a C extension
        return False
    wants = "k" in signature.parameters
    try:
        signature.bind("a query", **({"k": 1} if wants else {}))
    except TypeError as error:
        raise InputError(
            f"{WHERE}: `{name}{signature}` cannot be called with a query alone, or with a query "
            f"and k ({error})"
        ) from None
    return wants


def _ask(target: Target, query: str, k: int, id_field: str | None) -> list[Any] | Failure:
    try:
        found = target.ask(query, **({"k": k} if target.wants_k else {}))
        if found is None:
            return []
        if isinstance(found, str | bytes | Mapping | set) or not isinstance(found, Iterable):
            return Failure(f"gave a {type(found).__name__}, not a list")
        return [_plain(item, id_field) for item in islice(found, _MOST)]
    except TimeoutError:
        return Failure("timed out")
    except Exception as error:  # noqa: BLE001  the user's code may raise anything
        return Failure(f"raised {_said(error)}")


def _said(error: Exception) -> str:
    try:
        line = str(error).strip().split("\n", 1)[0][:120]
    except Exception:  # noqa: BLE001  of the user's code, too
        line = ""
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _plain(item: Any, id_field: str | None) -> Any:
    """A result without objects of other packages: as it is, a pair, or a mapping."""
    if isinstance(item, Ranked | str | Integral):
        return item
    if isinstance(item, tuple | list):
        return tuple(_plain(part, id_field) if n == 0 else part for n, part in enumerate(item))
    fields = dict(item) if isinstance(item, Mapping) else _document(item)
    metadata = fields.get("metadata")
    if id_field and isinstance(metadata, Mapping) and metadata.get(id_field) is not None:
        fields = {**fields, "id": metadata[id_field]}
    return fields


def _document(item: Any) -> dict[str, Any]:
    """LangChain's Document (page_content), LlamaIndex' NodeWithScore (get_content), or alike."""
    names = ("id", "node_id", "score", "metadata", "title")
    fields = {name: getattr(item, name, None) for name in names}
    content = getattr(item, "get_content", None)
    text = content() if content is not None else getattr(item, "page_content", None)
    return {**fields, "text": getattr(item, "text", None) if text is None else text}
