"""The docs: links that resolve, and no component left out."""

import re
from pathlib import Path

import pytest

from accord.registry import KINDS, components

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    p
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md")
    for p in ROOT.glob(pattern)
)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_resolves(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def ours(kind):
    """The names of the built-in components: other tests may have registered some of their own."""
    known = components(kind).items()
    return [name for name, c in known if c.function.__module__.startswith("accord.")]


def test_every_component_has_one_line_in_the_docs():
    text = (ROOT / "docs" / "components.md").read_text("utf-8")
    for kind in KINDS:
        (section,) = re.findall(rf"^## {kind}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == ours(kind)


def test_every_option_of_a_component_is_in_the_docs():
    text = (ROOT / "docs" / "components.md").read_text("utf-8")
    for kind in KINDS:
        for name in ours(kind):
            found = components(kind)[name]
            (line,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
            assert re.findall(r"`(\w+) = ", line) == [o.rstrip("_") for o in found.options]
