"""The eight stages: what does each, what of the config it depends on, and what it reads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accord import __version__
from accord.canonical_rows import canonical_form
from accord.config import STAGES as STAGE_NAMES
from accord.config import named
from accord.data import keep_apart, wordings
from accord.errors import InputError
from accord.evaluate.scoring import Resources
from accord.evaluate.stage import evaluate
from accord.evaluate.table import table
from accord.generate.rows import Ask, Row, asks, gold_contexts
from accord.generate.stage import generate
from accord.grounding import Search, ground
from accord.merge.stage import merge
from accord.models.bertscore import TokenEmbedder
from accord.models.encoder import Encoder
from accord.models.locate import title
from accord.progress import Progress
from accord.records import (
    Answer,
    Passage,
    Wording,
    read_records,
    read_weights,
    write_json,
    write_records,
)
from accord.registry import suggest
from accord.report.stage import report
from accord.retrieve.consistency import by_kind, consistency, sentence
from accord.retrieve.vectors import Vectors
from accord.runs import hash_json
from accord.story import page_content
from accord.targets import self_targets, with_targets
from accord.train.plan import has_answer
from accord.train.stage import train
from accord.vary.stage import vary
from accord.weigh.stage import weigh
from accord.work import Work

Notes = Sequence[str]


def do_vary(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Variations of the questions of every split."""
    settings = work.config.vary
    made, skipped = vary(
        work.data.questions,
        settings.components(),
        frozen=work.data.variations,
        max_per_question=settings.max_per_question,
        seed=work.config.seed,
        encode=work.encoder.encode,
        progress=progress,
    )
    made, crossing = keep_apart(work.data.questions, made)
    write_records(out / "variations.jsonl", made)
    write_records(out / "variations.skipped.jsonl", [*skipped, *crossing])
    write_records(out / "wordings.jsonl", wordings(work.data.questions, made, work.config.seed))
    return [*work.data.notes, f"{len(made)} variations of {len(work.data.questions)} questions"]


def do_retrieve(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Passages for every wording, and how steady they are."""
    settings, encoder = work.config.retrieve, work.search_encoder
    notes: list[str] = []
    vectors = Vectors(encoder.encode, out / "found.vectors", progress) if encoder else None
    encode = vectors.encode if vectors else None
    search = Search(settings, work.data.passages, encode, out, notes.append, progress)
    asked, test = work.wordings(), work.wordings("test")
    contexts, forms = ground(asked, test, work.data.contexts, search)
    steady = consistency(contexts, {w.id: w.type for w in asked if w.type}, work.gold)
    write_records(out / "contexts.jsonl", contexts)
    write_records(out / "consistency.jsonl", steady)
    if forms is not None:
        write_records(out / "contexts.canonical.jsonl", forms)
    search.end()
    if any(found.passages for found in contexts):
        notes.append(sentence(by_kind(steady), settings.k))
    return notes


def do_train(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """SFT, SFT+TL, the specialists, ALL, and controls."""
    config = work.config
    asked = work.wordings("train")
    dev = [w for w in work.wordings("dev") if w.part == "select"]
    if config.train.early_stopping is None:
        dev = []
    targets: dict[str, str] = {}
    notes: list[str] = []
    if config.train.targets == "self":
        targets, notes = self_targets(work, [*asked, *dev], out, progress)
    lacking = len({w.original_id for w in asked if not (has_answer(w) or w.original_id in targets)})
    if lacking:
        text = f"train: {lacking} training questions have no answer and are left out"
        more = "; train.targets=self has them learn the base model's" if not notes else ""
        notes = [*notes, text + more]
    models, more_notes = train(
        work.base,
        with_targets(asked, targets),
        work.contexts(),
        work.encoder,
        out,
        settings=config.train,
        prompt=config.prompt,
        reserve=config.generate.max_new_tokens,
        dev=with_targets(dev, targets),
        seed=config.seed,
        # What every row depends on: one is kept where only other rows have changed.
        key=hash_json(
            [__version__, *(work.fingerprint(n) for n in ("base", "encoder", "template"))]
        ),
        progress=progress,
    )
    write_records(out / "models.jsonl", models)
    return [*notes, *more_notes]


def do_weigh(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Layer weights from the first half of the development questions."""
    settings = work.config.weigh
    asked = [w for w in work.wordings("dev") if w.part == "fit"]
    if settings.queries == "originals_only":
        asked = [w for w in asked if w.type is None]
    weights, notes = weigh(
        work.specialists(),
        [w.query for w in asked],
        work.encoder,
        weighting=settings.type,
        similarity=settings.similarity,
        pool=settings.pool,
        options=settings.options,
        progress=progress,
    )
    write_json(out / "layer_weights.json", weights.model_dump(mode="json"))
    return notes


def do_merge(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """One model from the specialists."""
    settings = work.config.merge
    target = out / "model"
    if target.exists():  # complete, but killed before the manifest was written
        return []
    return merge(
        work.base,
        work.specialists(),
        read_weights(work.run.stage("weigh") / "layer_weights.json"),
        target,
        method=settings.method,
        options=settings.options,
        outside_layers=settings.outside_layers,
        dtype=settings.dtype,
        exempt_1d=settings.exempt_1d,
        seed=work.config.seed,
        progress=progress,
    )


def do_generate(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """Answers of every model to every test wording, and of some to its canonical form."""
    settings = work.config.generate
    models = {name: folder for name, (_, folder) in work.models().items()}
    for name in settings.canonical:
        if name not in models:
            raise InputError(f"generate.canonical: no row `{name}`; {suggest(name, models)}")
    asked = work.wordings("test")
    gold = gold_contexts(work.data.questions, work.data.passages)
    own = tuple(asks(asked, work.contexts(), gold, settings.contexts))
    rows = {name: Row(folder, own) for name, folder in models.items()}
    if (work.run.stage("retrieve") / "contexts.canonical.jsonl").is_file():
        forms = canonical_asks(asked, work.contexts("contexts.canonical.jsonl"))
        rows |= {f"{name}+canonical": Row(models[name], forms) for name in settings.canonical}
    answers, notes = generate(
        rows,
        work.run.folder / "answers.cache.jsonl",
        fingerprint=work.run.hash_folder,
        backend=settings.backend,
        options=settings.options,
        prompt=work.config.prompt,
        max_new_tokens=settings.max_new_tokens,
        repeat=settings.repeat,
        progress=progress,
    )
    write_records(out / "answers.jsonl", answers)
    return notes


def canonical_asks(
    asked: Sequence[Wording], contexts: Mapping[str, Sequence[Passage]]
) -> tuple[Ask, ...]:
    """The wordings with their canonical forms as queries, and the passages of those."""
    forms = canonical_form(asked)
    return tuple(
        Ask(w, form.query, tuple(contexts[w.id])) for w, form in zip(asked, forms, strict=True)
    )


def resources(encoder: Encoder | None, name: str) -> Resources:
    """What the metrics may ask for: nothing without an encoder."""
    if encoder is None:
        return Resources()
    return Resources(
        encode=encoder.encode,
        encoder=title(name),
        embed_tokens=TokenEmbedder(encoder.folder),
    )


def do_evaluate(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """The five metrics with intervals, and the table."""
    progress.start(1, "table")
    settings = work.config.evaluate
    scores = evaluate(
        read_records(work.run.stage("generate") / "answers.jsonl", Answer),
        {q.id: q.answer for q in work.data.questions},
        T=settings.T,
        accuracy=named(settings.accuracy),
        consistency=named(settings.consistency),
        resources=resources(work.encoder, work.config.encoder),
        trained=work.config.train.kinds,
        gold=work.gold,
        resamples=settings.resamples,
        seed=work.config.seed,
    )
    write_json(out / "scores.json", scores)
    write_json(out / "table.json", table(scores, list(work.models())))
    progress.advance()
    return []


def do_report(work: Work, out: Path, key: str, progress: Progress) -> Notes:
    """The page."""
    progress.start(1, "page")
    report(page_content(work.config, work.run), out / "report.html")
    progress.advance()
    return []


@dataclass(frozen=True)
class Stage:
    """A stage: what does it, what of the config it depends on, and what it reads.

    `keeps`: it knows itself which of its files are still good under another key.
    """

    name: str
    do: Callable[[Work, Path, str, Progress], Notes]
    sections: tuple[str, ...]
    reads: tuple[str, ...]
    after: tuple[str, ...]
    keeps: bool = False


STAGES = (
    Stage("vary", do_vary, ("vary", "seed"), ("questions", "variations", "encoder"), ()),
    Stage(
        "retrieve",
        do_retrieve,
        ("retrieve",),
        ("passages", "contexts", "gold", "retriever"),
        ("vary",),
    ),
    Stage(
        "train",
        do_train,
        ("train", "prompt", "seed", "generate.max_new_tokens"),
        ("base", "encoder", "template", "passages"),
        ("vary", "retrieve"),
        keeps=True,
    ),
    Stage("weigh", do_weigh, ("weigh",), ("encoder",), ("vary", "train")),
    Stage("merge", do_merge, ("merge", "seed"), ("base",), ("train", "weigh")),
    Stage(
        "generate",
        do_generate,
        ("generate", "prompt"),
        ("base", "template", "passages", "questions"),
        ("vary", "retrieve", "train", "merge"),
    ),
    Stage(
        "evaluate",
        do_evaluate,
        ("evaluate", "seed"),
        ("questions", "gold", "encoder"),
        ("generate",),
    ),
    Stage("report", do_report, ("report",), (), STAGE_NAMES[:-1]),
)
