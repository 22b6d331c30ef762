"""How the endpoint is asked: bodies, paths, and where the passages come from."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from accord.errors import InputError
from accord.models.address import read_address
from accord.models.body import Body, read_body
from accord.models.endpoint import completions
from accord.models.posting import REFUSED
from accord.models.service import Check, Service, ids, text
from accord.probe.target import WHERE, Patience, Target, read_headers, refuse_stray
from accord.records import Passage
from accord.retrieve.asking import asks_for

ANSWER, IDS, ENDED = "answer", "passage ids", "finish_reason"
# Passages are given back to the endpoint, retrieved here, only told by it, or not known.
How = Literal["returned", "retrieved", "reported", "unknown"]
_MENDS = {
    ANSWER: "give the right --answer",
    IDS: "give the right --passage-ids",
    REFUSED: "give --api-key-env NAME or --header",
}
_TURNS = [{"role": "system", "content": "{{ system }}"}, {"role": "user", "content": "{{ ask }}"}]
_CHAT_PATHS = {ANSWER: "choices[0].message.content", ENDED: "choices[0].finish_reason"}


class Client:
    """Makes requests of wordings and reads their replies.

    `how` says where passages come from; `held` whether a wording can be asked with the passages of
    its original. Raises InputError for options that do not fit together or cannot be used.
    """

    def __init__(
        self, target: Target, patience: Patience, passages: Sequence[Passage] = ()
    ) -> None:
        self.target, self.passages = target, {p.id: p for p in passages}
        refuse_stray(target)
        address = read_address(target.url, f"{WHERE}: the URL")
        chat = target.api == "chat"
        self.address = address._replace(url=completions(address.url)) if chat else address
        self.body, self.fixed_body = self._bodies()
        self.how = self._how()
        self.held = self.how in ("returned", "retrieved")
        self.name = target.model or self.address.url.split("//", 1)[1].rstrip("/")
        self.own = self._service(self.body, patience, fixed=False)
        self.fixed = self._service(self.fixed_body or self.body, patience, fixed=True)
        self._prompt = self._prompter() if chat and self.how == "retrieved" else None

    def values(self, id_: str, query: str, passages: Sequence[str] | None) -> dict[str, Any]:
        """A template's variables for one wording; `passages` are ids, None: none handed over."""
        full = None if passages is None else [self._passage(name) for name in passages]
        target = self.target
        return {
            "query": query,
            "id": id_,
            "passages": full,
            "passage_ids": None if passages is None else list(passages),
            "ask": self._prompt(query, full or []) if self._prompt and full is not None else query,
            "system": target.system,
            "model": target.model,
        }

    def settings(self) -> dict[str, Any]:
        """All that an answer depends on, without anything secret."""
        target = self.target
        return {
            "url": self.address.url,
            "model": self.name,
            # Digests: somebody may have written a key into a body or behind the `?`.
            "query": _digest(urlencode(self.address.query)) if self.address.query else None,
            "body": _digest(self.body.text),
            "fixed": _digest(self.fixed_body.text) if self.fixed_body else None,
            "paths": self.own.paths,
            "headers": sorted(self._headers()),
            "system": target.system,
            "passages": _of_file(target.passages) if self.how == "retrieved" else self.how,
            "retriever": self._retriever() if self.how == "retrieved" else None,
            "prompt": _of_file(target.prompt),
        }

    def _retriever(self) -> list[Any]:
        target = self.target
        encoder = target.encoder if "encode" in asks_for(target.retriever, {}) else None
        return [target.retriever, target.k, encoder]

    def _passage(self, name: str) -> dict[str, Any]:
        known = self.passages.get(name)
        return known.model_dump() if known else {"id": name}

    def _bodies(self) -> tuple[Body, Body | None]:
        target = self.target
        if target.api == "chat":
            turns = _TURNS if target.system is not None else _TURNS[1:]
            chat: dict[str, Any] = {"model": "{{ model }}", "messages": turns}
            chat |= {"temperature": target.temperature, "seed": target.seed}
            if target.max_tokens is not None:
                chat["max_tokens"] = target.max_tokens
            return Body(chat, "--body"), None
        body = read_body(target.body or '{"question": "{{ query }}"}', "--body")
        fixed = read_body(target.fixed, "--fixed") if target.fixed else None
        for name, given in (("--body", body), ("--fixed", fixed)):
            if given and not given.names & {"query"}:
                raise InputError(f"{name}: has no {{{{ query }}}}, so every question is the same")
        if fixed and not fixed.mentions_passages:
            raise InputError(
                "--fixed: has no {{ passages }} and no {{ passage_ids }}, so it fixes nothing"
            )
        if body.mentions_passages and target.passage_ids is None and target.passages is None:
            raise InputError(
                "--body: mentions passages and none are known; give --passage-ids, or --passages"
            )
        return body, fixed

    def _how(self) -> How:
        target = self.target
        takes = target.api == "chat" or self.body.mentions_passages or self.fixed_body is not None
        if target.passage_ids is not None:
            if target.passages is not None and not takes:
                raise InputError("--passages: does nothing where no template mentions passages")
            return "returned" if takes else "reported"
        if target.passages is None:
            return "unknown"
        if target.api == "json" and not self.body.mentions_passages:
            raise InputError(
                "--passages: are retrieved here and handed over, but --body has no {{ passages }}; "
                "add it, or give --passage-ids where the endpoint reports its own"
            )
        return "retrieved"

    def _service(self, body: Body, patience: Patience, *, fixed: bool) -> Service:
        target = self.target
        paths, optional = dict(_CHAT_PATHS), [ENDED]
        if target.api == "json":
            paths = {ANSWER: target.answer or "answer"}
        if target.passage_ids is not None:
            paths[IDS] = target.passage_ids
            optional += [IDS] if fixed else []  # what was handed over need not come back
        checks: dict[str, Check] = {ANSWER: text, IDS: ids, ENDED: _ended}
        return Service(
            self.address,
            body=body,
            paths=paths,
            optional=optional,
            checks=checks,
            headers=self._headers(),
            rate=patience.rate,
            concurrency=patience.concurrency,
            timeout=patience.timeout,
            tries=patience.tries,
            where=WHERE,
            purpose="questions to an endpoint",
            mends=_MENDS,
            sleep=patience.sleep,
        )

    def _headers(self) -> dict[str, str]:
        return read_headers(self.target.headers, self.target.api_key_env)

    def _prompter(self) -> Callable[[str, Sequence[Mapping[str, Any]]], str]:
        from accord.probe.prompting import prompter

        return prompter(self.target.prompt)


def _ended(value: Any) -> str | None:
    """A check: why an answer ended; what says nothing that a file can hold is as if it lacked."""
    try:
        return text(value)
    except ValueError:
        return None


def _of_file(path: Path | None) -> str | None:
    return None if path is None else _digest(path.read_bytes())


def _digest(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()
