"""Semantic variations: paraphrases written by a model, each checked before it is kept.

The paper used Llama-3.1-70B-Instruct (section 3.1). Frozen paraphrases, written by people or made
earlier, are the better source and need no model: list them under `data.variations`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from accord.errors import InputError
from accord.models.endpoint import Endpoint, Reply
from accord.models.spending import SPENT, Spending
from accord.records import Question
from accord.registry import register
from accord.vary.meaning import Limits, meaning
from accord.vary.named import spacy_entities
from accord.vary.outcome import Encode, Outcome, Rejected, Rewording, Skip
from accord.vary.replies import read_rewordings, read_verdict
from accord.vary.template import Ask

WHERE = "vary.types semantic"
OUTSIDE_A_RUN = "package:all-minilm-l6-v2"


class Model(Protocol):
    """What writes: an endpoint or a local model."""

    def ask_all(self, prompts: Sequence[str], *, seed: int) -> Iterator[Reply]:
        """One reply for each prompt, in their order."""
        ...


@register("variations", "semantic")
def semantic(
    questions: Sequence[Question],
    encode: Encode | None = None,
    *,
    seed: int,
    base_url: str | None = None,
    model: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    local: str | None = None,
    k: Annotated[int, Field(ge=1, le=20)] = 2,
    prompt: Path | None = None,
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7,
    max_tokens: Annotated[int, Field(ge=1)] = 512,
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8,
    timeout: Annotated[float, Field(gt=0)] = 60.0,
    encoder: str | None = "run",
    threshold: Annotated[float, Field(ge=-1, le=1)] = Limits().threshold,
    identical: Annotated[float, Field(ge=-1, le=1)] = Limits().identical,
    length_ratio: Annotated[float, Field(ge=1)] = Limits().length_ratio,
    judge: bool = False,
    budget: dict[Literal["requests", "tokens"], Annotated[int, Field(ge=0)]] | None = None,
    cache: Path | None = None,
) -> Iterator[Outcome]:
    """Paraphrases of the whole query from an OpenAI-compatible endpoint or a local model.

    `encode` is no option: it is the run's encoder, which `encoder: run` takes. Outside a run that
    takes the embedded one; `encoder: null` checks no similarity.
    """
    if base_url is None and local is None:
        # Frozen paraphrases are added by the stage; without a model there are no others.
        yield from (Skip("no frozen paraphrase and no model (base_url, local)") for _ in questions)
        return
    limits = Limits(threshold, identical, length_ratio)
    sieve = Sieve(k, limits, _encode(encoder, encode))
    if local is not None:
        asked = _local(local, base_url, budget, temperature, max_tokens, cache)
    else:
        asked = _endpoint(
            base_url, model, api_key_env, temperature=temperature, timeout=timeout, cache=cache,
            concurrency=concurrency, max_tokens=max_tokens, spending=Spending(**(budget or {})),
        )  # fmt: skip
    outcomes = _outcomes(asked, questions, Ask("paraphrase.jinja", prompt), sieve, seed)
    yield from judged(asked, questions, outcomes, seed) if judge else outcomes


def _outcomes(
    model: Model, questions: Sequence[Question], ask: Ask, sieve: "Sieve", seed: int
) -> Iterator[Outcome]:
    prompts = [ask.render(query=question.query, k=sieve.k) for question in questions]
    replies = model.ask_all(prompts, seed=seed)
    for question, reply in zip(questions, replies, strict=True):
        yield sieve(question.query, reply)


def _endpoint(base_url: str | None, model: str | None, api_key_env: str, **options: Any) -> Model:
    if base_url is None or model is None:
        raise InputError(f"{WHERE}: base_url without `model`; name the model to ask there")
    return Endpoint(
        base_url, model, api_key_env, where=WHERE, purpose="semantic variations", **options
    )


def _local(
    name: str,
    base_url: str | None,
    budget: dict[Any, int] | None,
    temperature: float,
    max_tokens: int,
    cache: Path | None,
) -> Model:
    if base_url is not None:
        raise InputError(f"{WHERE}: both `local` and `base_url`; one model is wanted")
    if budget is not None:
        raise InputError(f"{WHERE}: `budget` with `local`; only an endpoint's use is counted")
    from accord.models.generator import Generator
    from accord.models.locate import locate

    folder = locate(name, f"{WHERE}.local")
    return Generator(folder, temperature=temperature, max_tokens=max_tokens, cache=cache)


def _encode(name: str | None, encode: Encode | None) -> Encode | None:
    """The encoder that `encoder` names: none, the run's, or outside a run the embedded one."""
    if name is None:
        return None
    if name == "run" and encode is not None:
        return encode
    if name == "run":
        name = OUTSIDE_A_RUN
    from accord.models.encoder import Encoder
    from accord.models.locate import locate

    return Encoder(locate(name, f"{WHERE}.encoder")).encode


class Sieve:
    """Makes an outcome of a reply: what passes the meaning guard, and the rest with its reason."""

    def __init__(self, k: int, limits: Limits, encode: Encode | None) -> None:
        self.k, self.limits, self.encode = k, limits, encode
        self.entities = spacy_entities()

    def __call__(self, query: str, reply: Reply) -> Outcome:
        """At most `k` rewordings of `query`, and all that were turned down."""
        if reply.text is None:
            return Skip(reply.reason if reply.reason == SPENT else f"no reply: {reply.reason}")
        texts = read_rewordings(reply.text)
        if isinstance(texts, Skip):
            return texts
        kept: list[str] = []
        outcome: list[Rewording | Rejected] = []
        for text, similarity in zip(texts, self._similarities(query, texts), strict=True):
            reason = self._reason(query, text, similarity, kept)
            if reason:
                outcome.append(Rejected(text, reason))
            else:
                kept.append(text)
                outcome.append(Rewording(text, "semantic", query, text))
        return outcome

    def _reason(
        self, query: str, text: str, similarity: float | None, kept: Sequence[str]
    ) -> str | None:
        if len(kept) >= self.k:
            return f"more than k = {self.k}"
        return meaning(
            query,
            text,
            similarity=similarity,
            limits=self.limits,
            kept=kept,
            entities=self.entities,
        )

    def _similarities(self, query: str, texts: Sequence[str]) -> list[float | None]:
        if self.encode is None:
            return [None] * len(texts)
        vectors = self.encode([query, *texts])
        return [float(similarity) for similarity in vectors[1:] @ vectors[0]]


def judged(
    model: Model, questions: Sequence[Question], outcomes: Iterable[Outcome], seed: int
) -> Iterator[Outcome]:
    """The outcomes, less the rewordings that the model does not find to ask the same."""
    ask = Ask("equivalent.jinja")
    known = list(zip(questions, outcomes, strict=True))
    prompts = [
        ask.render(query=question.query, candidate=item.query)
        for question, outcome in known
        if not isinstance(outcome, Skip)
        for item in outcome
        if isinstance(item, Rewording)
    ]
    replies = iter(list(model.ask_all(prompts, seed=seed)))
    for _, outcome in known:
        if isinstance(outcome, Skip):
            yield outcome
        else:
            yield [
                _verdict(item, next(replies)) if isinstance(item, Rewording) else item
                for item in outcome
            ]


def _verdict(item: Rewording, reply: Reply) -> Rewording | Rejected:
    if reply.text is None:
        return Rejected(item.query, f"not judged: {reply.reason}")
    same = read_verdict(reply.text)
    if same is None:
        return Rejected(item.query, "not judged: the reply is no verdict")
    return item if same else Rejected(item.query, "the judge finds another meaning")
