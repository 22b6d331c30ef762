"""All that can be known before work starts, and as errors what would otherwise fail late."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from accord.config import STAGES, Config, named
from accord.configfile import load_config, read_yaml
from accord.data import SPLITS, Dataset, load_dataset, what_is_asked
from accord.errors import AccordError, InputError
from accord.evaluate.scoring import choose
from accord.generate.preflight import preflight as backend_preflight
from accord.merging import check_merge, is_merge
from accord.models.locate import (
    cache_folder,
    find_embedded,
    is_dequantised,
    locate,
    require_on_hub,
)
from accord.records import Split, Wording
from accord.registry import suggest
from accord.retrieve.preflight import WITHOUT, goes_without, needs_collection, preflight
from accord.runs import Run
from accord.sizes import base_bytes
from accord.train.plan import plan_rows, require_enough
from accord.train.preflight import models_written
from accord.train.preflight import preflight as train_preflight

_PARSED = ("singular_plural", "article", "singular_plural_article")  # need spaCy


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Literal["ok", "note", "error"]
    about: str
    text: str


def require_stage(option: str, name: str | None) -> None:
    """Raise InputError if `name` is no stage."""
    if name is not None and name not in STAGES:
        raise InputError(f"{option} {name}: no such stage; {suggest(name, STAGES)}")


def check_file(
    path: Path,
    sets: Sequence[str],
    *,
    seed: int | None,
    limit: int | None,
    run_folder: Path | None,
) -> list[Finding]:
    """Check a config file and everything it names; of a run, or of a merge."""
    tree = read_yaml(path)
    if is_merge(tree):
        return _merge(path, seed, run_folder)
    try:
        config = load_config(path, sets, seed=seed, limit=limit)
    except AccordError as error:
        return [Finding("error", "config", str(error))]
    folder = run_folder or Path("runs") / path.resolve().parent.name
    return [Finding("ok", "config", str(path)), *check(config, folder)]


def require_ready(config: Config, folder: Path) -> list[str]:
    """The notes of a check; raises its first error."""
    findings = check(config, folder)
    for finding in findings:
        if finding.level == "error":
            raise InputError(finding.text)
    return [f.text for f in findings if f.level == "note"]


def check(config: Config, folder: Path) -> list[Finding]:
    """Look at data, models, packages and disk."""
    try:
        data = load_dataset(config.data, config.seed)
    except AccordError as error:
        return [Finding("error", "data", str(error))]
    parts: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("data", lambda: _data(config, data)),
        ("vary", lambda: _vary(config, data)),
        ("retrieve", lambda: _retrieve(config, data)),
        ("train", lambda: _train(config)),
        ("generate", lambda: _generate(config)),
        ("evaluate", lambda: _metrics(config)),
        ("base", lambda: _base(config)),
        ("encoder", lambda: _encoder(config)),
        ("folder", lambda: _folder(folder)),
        ("disk", lambda: _disk(config, folder)),
    )
    return list(chain.from_iterable(_guarded(about, look) for about, look in parts))


def _guarded(about: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except AccordError as error:
        yield Finding("error", about, str(error))


def _data(config: Config, data: Dataset) -> Iterator[Finding]:
    sizes = {split: len(data.of_split(split)) for split in SPLITS}
    shown = ", ".join(f"{count} {split}" for split, count in sizes.items())
    yield Finding("ok", "data", f"{shown}; {len(data.passages)} passages")
    yield from (Finding("note", "data", note) for note in data.notes)
    needed: dict[Split, int] = {"train": 1, "dev": 2, "test": 1}
    for split, least in needed.items():
        if sizes[split] < least:
            yield Finding(
                "error",
                "data",
                f"data: the {split} split has {sizes[split]} questions and needs {least}; "
                "give questions a `split`, or change data.split",
            )
    originals = [
        Wording(id=q.id, original_id=q.id, type=None, query=q.query, split="train", answer=q.answer)
        for q in data.of_split("train")
    ]
    # A row has at least its originals; if a row without variations has enough, all have.
    rows = [row for row in plan_rows(config.train) if not row.types]
    if originals and config.train.targets == "reference":
        require_enough(rows, originals)
    yield from _shared_queries(data)


def _shared_queries(data: Dataset) -> Iterator[Finding]:
    """The same query in two splits would let test leak into training."""
    places: dict[object, str] = {}
    owners = {q.id: q for q in data.questions}
    asked = [(q.query, q, q.id) for q in data.questions]
    asked += [(v.query, owners[v.original_id], v.id) for v in data.variations]
    for query, owner, name in asked:
        key, split = what_is_asked(query, owner.turns), str(owner.split)
        if places.setdefault(key, split) != split:
            yield Finding(
                "error",
                "data",
                f"data: `{name}` asks in {split} what is also asked in {places[key]}: {query!r}; "
                "nothing from test may be in training, so give both the same split or drop one",
            )


def _vary(config: Config, data: Dataset) -> Iterator[Finding]:
    for name, options in config.vary.components():
        if name in _PARSED and not importlib.util.find_spec("spacy"):
            raise InputError(f'vary: {name} needs `pip install "accord[vary]"`')
        if name != "semantic":
            continue
        if options.get("local"):
            continue
        if not options.get("base_url"):
            covered = {v.original_id for v in data.variations if v.type == "semantic"}
            lacking = sum(q.id not in covered for q in data.questions)
            if lacking:
                yield Finding(
                    "note",
                    "vary",
                    f"{lacking} questions have no frozen semantic variation and no endpoint is "
                    "given, so they get none",
                )
        elif not os.environ.get(options.get("api_key_env", "OPENAI_API_KEY")):
            name = options.get("api_key_env", "OPENAI_API_KEY")
            yield Finding(
                "note", "vary", f"${name} is not set: the endpoint is asked without a key"
            )


def _retrieve(config: Config, data: Dataset) -> Iterator[Finding]:
    """The retriever and its options, the collection, and passages that the user brings."""
    settings = config.retrieve
    preflight(settings.type, settings.options, settings.encoder)
    if settings.encoder is not None:
        yield from _named_encoder(settings.encoder, "retrieve.encoder")
    asked = {*(q.id for q in data.questions), *(v.id for v in data.variations)}
    brought = {g.id: g.original_id for g in data.contexts}
    lacking = len(asked - brought.keys())
    searches = needs_collection(settings.type, settings.options)
    if searches and goes_without(data.questions, data.passages, data.contexts):
        yield Finding("note", "retrieve", WITHOUT)
        return
    if not data.passages and lacking and searches:
        raise InputError(
            f"data.passages: no passages; retrieval by `{settings.type}` needs a collection"
        )
    if brought:
        text = f"{len(asked) - lacking} of {len(asked)} questions and frozen variations"
        yield Finding("note", "retrieve", f"data.contexts: {text} have their passages there")
    other = [i for i, of in brought.items() if i not in asked and not i.startswith(f"{of}~")]
    if other:  # what is made by the stage vary has ids of that form
        text = f"{len(other)} entries are of no wording asked (first: `{other[0]}`)"
        yield Finding("note", "retrieve", f"data.contexts: {text}")
    yield Finding("ok", "retrieve", f"{settings.type}, k = {settings.k}")


def _train(config: Config) -> Iterator[Finding]:
    """The loss, LoRA, trackers and arguments of transformers."""
    local = Path(config.base)
    train_preflight(config.train, local if local.is_dir() else None)
    rows = ", ".join(row.name for row in plan_rows(config.train))
    yield Finding("ok", "train", f"{config.train.loss}; {rows}")


def _generate(config: Config) -> Iterator[Finding]:
    """Rows to be asked in canonical form that will not be there, and the backend."""
    settings = config.generate
    rows = ["B", *(row.name for row in plan_rows(config.train)), "Merged"]
    for name in settings.canonical:
        if name not in rows:
            text = f"generate.canonical: no row `{name}`; {suggest(name, rows)}"
            yield Finding("error", "generate", text)
    for level, text in backend_preflight(settings.backend, settings.options, rows):
        yield Finding(level, "generate", text)
    dtype = settings.options.get("dtype", "float32")
    if dtype != "float32" and settings.repeat == 1:
        text = f"in {dtype} the same prompt may get another answer beside other prompts"
        yield Finding("note", "generate", f"{text}: `generate.repeat: 2` shows how often")


def _metrics(config: Config) -> Iterator[Finding]:
    """Metrics that are none, or do not fit their place; found before hours of training."""
    settings = config.evaluate
    choose(named(settings.accuracy), named(settings.consistency), T=settings.T)
    yield from ()


def _base(config: Config) -> Iterator[Finding]:
    from accord.merge.checkpoint import count_layers

    if not importlib.util.find_spec("torch") or not importlib.util.find_spec("transformers"):
        raise InputError('training and generation need `pip install "accord[models]"`')
    name = config.base
    if name.startswith("package:"):
        entry, inside = find_embedded(name[8:], "base")
        yield Finding("ok", "base", entry.title)
        if inside.suffix == ".gguf" and not is_dequantised(inside):
            text = f"the base is dequantised once, into {cache_folder()}: half a minute, 0.5 GB"
            yield Finding("note", "base", text)
    elif Path(name).is_dir() or Path(name).is_absolute():
        folder = locate(name, "base")
        yield Finding("ok", "base", f"{folder}, {count_layers(folder)} layers")
        if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
            raise InputError(
                f"base: {folder} has no tokenizer, and training and generation need one"
            )
        if not _has_chat_template(folder):
            text = "the base has no chat template: prompts will be plain text"
            yield Finding("note", "base", text)
    else:
        require_on_hub(name, "base")
        yield Finding("ok", "base", f"{name}, from the model hub")


_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*")


def _has_chat_template(folder: Path) -> bool:
    config = folder / "tokenizer_config.json"
    inside = config.is_file() and "chat_template" in config.read_text("utf-8", errors="replace")
    return inside or (folder / "chat_template.jinja").is_file()


def _encoder(config: Config) -> Iterator[Finding]:
    yield from _named_encoder(config.encoder, "encoder")


def _named_encoder(name: str, where: str) -> Iterator[Finding]:
    if name.startswith("package:"):
        find_embedded(name[8:], where)
    elif Path(name).is_dir() or Path(name).is_absolute():
        locate(name, where)
    else:
        require_on_hub(name, where)
    yield Finding("ok", where.partition(".")[0], name)


def _merge(path: Path, seed: int | None, out: Path | None) -> list[Finding]:
    try:
        first, *notes = check_merge(path, seed, out or Path("merged"))
    except AccordError as error:
        return [Finding("error", "merge", str(error))]
    return [Finding("ok", "merge", first), *(Finding("note", "merge", note) for note in notes)]


def _folder(folder: Path) -> Iterator[Finding]:
    Run(folder).require_usable()
    yield Finding("ok", "folder", str(folder))


def _disk(config: Config, folder: Path) -> Iterator[Finding]:
    """Every trained row and the merge are as large as the base, two checkpoints six times it."""
    size = base_bytes(config.base)
    models = models_written(config.train) + 1
    done = sum(1 for _ in folder.glob("train/*/model*.safetensors"))
    done += (folder / "merge" / "model").is_dir()
    left = max(0, models - done)
    # Weights and two moments of each; the one before goes when the next is complete.
    checkpoints = 6 if left > 1 and config.train.lora is None else 0
    needed = size * (left + checkpoints)
    place = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    text = f"{needed / 1e9:.1f} GB for {models} models and checkpoints, "
    text += f"{free / 1e9:.1f} GB free at {place}"
    if needed > free:
        raise InputError(f"-o {folder}: no space left: needs {text}; choose another disk with -o")
    yield Finding("ok", "disk", text)


def render(findings: Sequence[Finding]) -> str:
    """One line for each finding, and what to do next."""
    lines = [f"{f.level:<6} {f.about:<8} {f.text}" for f in findings]
    errors = sum(f.level == "error" for f in findings)
    verdict = f"{errors} error{'s' if errors != 1 else ''}" if errors else "ready to run"
    return "\n".join([*lines, verdict])
