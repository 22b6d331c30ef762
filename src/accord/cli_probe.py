"""The command that asks a live endpoint: how inconsistent is it, and where from?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from accord.errors import InputError, RunError
from accord.options import Json, Quiet, Verbose
from accord.terminal import Terminal

if TYPE_CHECKING:
    from accord.probe.stage import Probed

GATE_FAILED = 3
_CHAT, _JSON = "chat: ", "json: "


def probe(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="http://host/v1 of a chat API, or where to post."),
    ],
    qa: Annotated[
        Path, typer.Option("--qa", metavar="QA", help="qa.jsonl; reference answers may be absent.")
    ],
    out: Annotated[
        Path, typer.Option("-o", metavar="SCORES", help="The JSON file to write; more beside it.")
    ],
    variations: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="variations.jsonl; without it they are made by rule."),
    ] = None,
    api: Annotated[
        Optional[Literal["chat", "json"]],
        typer.Option(help="OpenAI-compatible chat, or JSON by POST; json with --body or --answer."),
    ] = None,
    model: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="The model to ask for; json: the name in SCORES."),
    ] = None,
    body: Annotated[
        Optional[str],
        typer.Option(
            metavar="FILE_OR_JSON",
            help=_JSON + 'what is posted, with {{ query }}; \'{"question": "{{ query }}"}\'.',
        ),
    ] = None,
    answer: Annotated[
        Optional[str],
        typer.Option(metavar="PATH", help=_JSON + "JMESPath to the answer; `answer`."),
    ] = None,
    passage_ids: Annotated[
        Optional[str],
        typer.Option(metavar="PATH", help=_JSON + "to the passages' ids, as 'sources[*].id'."),
    ] = None,
    fixed: Annotated[
        Optional[str],
        typer.Option(
            metavar="FILE_OR_JSON",
            help=_JSON + "the body that hands over {{ passage_ids }} or {{ passages }}.",
        ),
    ] = None,
    passages: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="passages.jsonl, retrieved here for a bare model."),
    ] = None,
    retriever: Annotated[str, typer.Option(metavar="NAME", help="For --passages.")] = "bm25",
    k: Annotated[int, typer.Option("--k", min=1, help="Passages of a wording.")] = 3,
    prompt: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="A jinja2 prompt for --passages; the built-in one."),
    ] = None,
    system: Annotated[Optional[str], typer.Option(help=_CHAT + "the system turn.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help=_CHAT + "0 is greedy.")] = 0.0,
    max_tokens: Annotated[
        Optional[int], typer.Option(min=1, help=_CHAT + "the longest answer.")
    ] = None,
    header: Annotated[
        Optional[list[str]],
        typer.Option(metavar="'NAME: $VARIABLE'", help="Its value from the environment only."),
    ] = None,
    api_key_env: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="The environment variable with the key (Bearer)."),
    ] = None,
    rate: Annotated[
        Optional[float], typer.Option(min=0.001, help="Requests a second at most.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a whole reply.")] = 60.0,
    tries: Annotated[int, typer.Option(min=1, help="Of each request.")] = 5,
    repeat: Annotated[
        int, typer.Option(min=1, help="Ask everything so often: the noise floor.")
    ] = 1,
    limit: Annotated[Optional[int], typer.Option(min=1, help="The first N questions.")] = None,
    gate: Annotated[
        Optional[str], typer.Option(metavar="EXPR", help='As "rs>=.8"; exit code 3.')
    ] = None,
    allow_missing: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="Of the answers, without exit code 1."),
    ] = 0.0,
    T: Annotated[float, typer.Option("--T", help="RS counts pairs with ROUGE-L F1 above T.")] = 0.7,
    encoder: Annotated[
        str, typer.Option(help="Sentence encoder, for BS: a folder, package:NAME or none.")
    ] = "none",
    force: Annotated[bool, typer.Option("--force", help="Ask everything anew.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of variations, chat API, resamples.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Ask a live RAG or chat endpoint every wording, and score it.

    Beside SCORES: STEM.md (the summary), STEM.answers.jsonl, STEM.failed.jsonl. The same command
    again asks only what is missing; exit code 1 while something is.
    """
    from accord.measure.sources import Measures
    from accord.probe.stage import Asking
    from accord.probe.stage import probe as ask
    from accord.probe.target import Patience, Target

    if passages is None and (retriever, k) != ("bm25", 3):
        raise InputError("--retriever and --k do nothing without --passages; give it too")
    chosen = api or ("json" if body or answer or passage_ids or fixed else "chat")
    if chosen == "json" and temperature:
        raise InputError("--temperature: is for --api chat; write it into --body")
    target = Target(
        url, chosen, model, body, fixed, answer, passage_ids, tuple(header or ()), api_key_env,
        system, temperature, max_tokens, seed, passages, retriever, k, encoder, prompt,
    )  # fmt: skip
    terminal = Terminal(as_json, quiet)
    probed = ask(
        target,
        Asking(qa, variations, repeat, limit, seed),
        out,
        Measures(T=T, encoder=encoder, seed=seed),
        patience=Patience(rate, concurrency, timeout, tries),
        gate=gate,
        force=force,
        say=terminal.say,
        watch=terminal.watch,
    )
    terminal.result(probed.scores, _shown(probed, out))
    _end(probed, terminal, allow_missing)


def _shown(probed: "Probed", out: Path) -> str:
    from accord.probe.summary import headline, where_from

    (name,) = probed.scores["models"]
    row = probed.scores["models"][name]
    lines = [*headline(probed.scores, name), where_from(row), *probed.scores["warnings"]]
    return "\n".join([*lines, f"wrote {out}, and {probed.page} to hand on"])


def _end(probed: "Probed", terminal: Terminal, allowed: float) -> None:
    """Say what is missing and what the gate decided, and end with the exit code of that."""
    from accord.probe.stage import reasons

    left = (
        f"{reasons(probed.failed)}; {probed.asked - probed.missing:,} of {probed.asked:,} answers "
        "are kept and scored, the same command asks only for the others"
    )
    lacking = probed.missing > allowed * probed.asked
    if probed.missing and not lacking:
        terminal.say(left)
    if probed.verdict is not None:
        for outcome in probed.verdict.outcomes:
            terminal.say(f"{'passed' if outcome.passed else 'FAILED'}: {outcome.sentence}")
        terminal.say(f"gate on {probed.verdict.model}: {probed.verdict.headline}")
        if not probed.verdict.passed:
            raise typer.Exit(GATE_FAILED)
    if lacking:
        raise RunError(left)
