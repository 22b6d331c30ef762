"""Semantic variations: paraphrases written by a model behind an OpenAI-compatible endpoint.

The paper used Llama-3.1-70B-Instruct (section 3.1). Frozen paraphrases, written by people or made
earlier, are the better source and need no endpoint: list them under `data.variations`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field

from accord.errors import InputError
from accord.models.endpoint import Endpoint
from accord.records import Question
from accord.registry import register
from accord.vary.outcome import Rewording, Skip


@register("variations", "semantic")
def semantic(
    questions: Sequence[Question],
    *,
    seed: int,
    base_url: str | None = None,
    model: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    k: Annotated[int, Field(ge=1, le=20)] = 2,
    prompt: Path | None = None,
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7,
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8,
    timeout: Annotated[float, Field(gt=0)] = 60.0,
) -> Iterator[list[Rewording] | Skip]:
    """Paraphrases of the whole query from an OpenAI-compatible endpoint."""
    if base_url is None or model is None:
        # Frozen paraphrases are added by the stage; without an endpoint there are no others.
        for _ in questions:
            yield Skip("no frozen paraphrase and no endpoint (base_url, model)")
        return
    endpoint = Endpoint(
        base_url,
        model,
        api_key_env,
        temperature=temperature,
        timeout=timeout,
        concurrency=concurrency,
        where="vary.types semantic",
        purpose="semantic variations",
    )
    template = _template(prompt)
    prompts = [_rendered(template, prompt, question.query, k) for question in questions]
    for question, reply in zip(questions, endpoint.ask_all(prompts, seed=seed), strict=True):
        if reply.text is None:
            yield Skip(f"the endpoint failed: {reply.reason}")
        else:
            yield parse_reply(reply.text, question.query, k)


def _template(path: Path | None) -> Template:
    if path is None:
        text = resources.files("accord.vary").joinpath("paraphrase.jinja").read_text("utf-8")
    else:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: the prompt cannot be read: {error}") from None
    try:
        return ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(text)
    except TemplateError as error:
        raise InputError(f"{path}: not a valid jinja2 template: {error}") from None


def _rendered(template: Template, path: Path | None, query: str, k: int) -> str:
    try:
        return template.render(query=query, k=k)
    except TemplateError as error:
        raise InputError(f"{path}: cannot be rendered: {error}") from None


def parse_reply(reply: str, query: str, k: int) -> list[Rewording] | Skip:
    """Read `k` paraphrases from a JSON list of strings; anything else is a skip, never guessed."""
    found = re.search(r"\[.*\]", reply, re.DOTALL)
    try:
        values = json.loads(found.group()) if found else None
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        return Skip("the endpoint's reply holds no JSON list of strings")
    kept: dict[str, str] = {}
    for value in values:
        text = " ".join(value.split())
        if text and text.casefold() != query.casefold() and numbers(text) == numbers(query):
            kept.setdefault(text.casefold(), text)
    if not kept:
        return Skip("every paraphrase repeats the query or changes its numbers")
    return [Rewording(text, "semantic", query, text) for text in list(kept.values())[:k]]


def numbers(text: str) -> list[str]:
    """The numbers in a text, sorted: a paraphrase must keep them."""
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))
