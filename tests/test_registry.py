"""Components: the signature is the schema of the options."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from accord import registry
from accord.errors import InputError
from accord.registry import KINDS, Component, check_options, component, components, suggest


def sample(
    texts,
    *,
    seed,
    count: Annotated[int, Field(ge=1, le=9)] = 3,
    mode: Literal["a", "b"] = "a",
    share: float = 0.5,
    path: Path | None = None,
):
    """A sample component.

    More about it.
    """


SAMPLE = Component("variations", "sample", sample)


def test_options_are_the_keyword_only_parameters_with_a_default():
    assert list(SAMPLE.options) == ["count", "mode", "share", "path"]
    assert SAMPLE.summary == "A sample component."


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ({}, {}),
        ({"count": "4"}, {"count": 4}),
        ({"share": 1}, {"share": 1.0}),
        ({"path": "x/y"}, {"path": Path("x/y")}),
        ({"path": None, "mode": "b"}, {"path": None, "mode": "b"}),
    ],
)
def test_options_get_the_types_of_the_signature(given, typed):
    checked = check_options(SAMPLE, given, "here")
    assert checked == typed
    assert [type(v) for v in checked.values()] == [type(v) for v in typed.values()]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"cuont": 1}, ("here.cuont", "`sample`", "`count`")),
        ({"seed": 1}, ("here.seed", "no such option")),
        ({"texts": 1}, ("here.texts", "no such option")),
        ({"count": 0}, ("here.count", "found 0", "1")),
        ({"count": 10}, ("here.count", "found 10", "9")),
        ({"count": "many"}, ("here.count", "'many'", "integer")),
        ({"mode": "c"}, ("here.mode", "'c'", "'a'")),
        ({"share": [1]}, ("here.share", "number")),
    ],
)
def test_wrong_options_are_named_with_what_would_be_right(given, parts):
    with pytest.raises(InputError) as caught:
        check_options(SAMPLE, given, "here")
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_a_summary_and_described_options(kind):
    known = components(kind)
    # Other tests register components of their own in the same process.
    ours = {n: c for n, c in known.items() if c.function.__module__.startswith("accord.")}
    assert ours
    for name, found in ours.items():
        assert found.summary.endswith((".", ")", "]")) or found.summary, name
        assert len(found.described) == len(found.options)
        assert component(kind, name, "") is found


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_component_is_refused_with_the_known_ones(kind):
    with pytest.raises(InputError, match=r"there: no .* `zzzz`; .*`"):
        component(kind, "zzzz", "there")


def test_suggestions():
    assert suggest("alhpa", ["alpha", "beta"]) == "did you mean `alpha`?"
    assert suggest("zzz", ["b", "a"]) == "one of `a`, `b` is wanted"
    assert "no options" in suggest("x", [])


def test_third_parties_add_components_by_entry_point(monkeypatch):
    class EntryPoint:
        def load(self):
            registry.register("methods", "theirs")(sample)

    registry.components("methods")
    monkeypatch.setattr(registry, "_components", dict(registry._components))
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint()])
    monkeypatch.setattr(registry, "_load", registry._load.__wrapped__)
    assert component("methods", "theirs", "").function is sample
