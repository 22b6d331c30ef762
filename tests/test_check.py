"""Bad input: one sentence that names the place and the way out, before anything is written."""

import json
import shutil

import pytest
from conftest import HELPDESK
from helpers import accord, example_config, refusal, tree

from accord.check import check_file, require_ready
from accord.configfile import load_config
from accord.errors import InputError
from accord.pipeline import choose, plan, run

Q = {"id": "q", "query": "How?", "answer": "So.", "split": "train"}


def findings(path, *sets, limit=None, run_folder=None):
    return check_file(path, sets, seed=None, limit=limit, run_folder=run_folder)


def errors(path, *sets, **options):
    found = findings(path, *sets, **options)
    assert all("\n" not in f.text for f in found)
    return [f.text for f in found if f.level == "error"]


def the_error(path, *sets, **options):
    """The only error of a check; a run must refuse the same, and neither may write anything."""
    home, place = path.parent, path.parent / "run"
    before = tree(home)
    (text,) = errors(path, *sets, run_folder=place, **options)
    with pytest.raises(InputError) as caught:
        config = load_config(path, sets, limit=options.get("limit"))
        require_ready(config, place)
        run(config, place)
    assert str(caught.value) == text
    assert tree(home) == before
    return text


@pytest.fixture
def config(tmp_path, tiny_llama):
    return example_config(tmp_path / "home", tiny_llama)


def test_the_example_with_a_tiny_model_is_ready(config):
    assert errors(config) == []
    assert require_ready(load_config(config), config.parent / "run") == []


def lines(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    return f"data.{name.partition('.')[0]}={folder / name}"


def test_too_few_training_queries_say_how_many_are_needed(config):
    message = the_error(config, limit=5)
    assert "5 training queries" in message and "21" in message and "train.loss=ce" in message
    assert errors(config, "train.loss=ce", limit=5) == []
    assert "20 training" in the_error(config, "data.limit.train=20")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_split_without_questions_is_named(config, split):
    rows = [json.loads(x) for x in (HELPDESK / "qa.jsonl").read_text().splitlines()]
    kept = [r for r in rows if r["split"] != split]
    override = lines(config.parent, "qa.jsonl", kept)
    assert f"the {split} split has 0" in the_error(config, override, "data.variations=null")


def test_training_questions_without_answers_are_refused(config):
    rows = [Q | {"id": f"q{n}", "query": f"How {n}?", "split": s}
            for n, s in enumerate(["train"] * 30 + ["dev"] * 3 + ["test"] * 3)]  # fmt: skip
    for row in rows:
        del row["answer"]
    override = lines(config.parent, "qa.jsonl", rows)
    assert "`answer`" in the_error(config, override, "data.variations=null")


def test_the_same_query_in_two_splits_is_refused(config):
    rows = [Q | {"id": f"q{n}", "query": f"How {n}?"} for n in range(30)]
    rows += [Q | {"id": f"{s}{n}", "query": f"{s} {n}?", "split": s}
             for s in ("dev", "test") for n in range(3)]  # fmt: skip
    rows[-1]["query"] = "  how   7 "
    override = lines(config.parent, "qa.jsonl", rows)
    message = the_error(config, override, "data.variations=null")
    assert "`test2`" in message and "train" in message and "how   7" in message


def test_a_precision_with_a_noise_floor_is_noted_unless_it_is_measured(config):
    def notes(*sets):
        return [f.text for f in findings(config, *sets) if f.level == "note"]

    wanted = "`generate.repeat: 2` shows how often"
    assert any(wanted in note for note in notes("generate.dtype=bfloat16"))
    for sets in (["generate.dtype=float32"], ["generate.dtype=bfloat16", "generate.repeat=2"]):
        assert not any(wanted in note for note in notes(*sets))


def test_no_passages_are_refused(config):
    message = the_error(config, "data.passages=null")
    assert "data.passages" in message


RETRIEVERS = {
    "`module:attribute` is wanted": {"type": "python"},
    "no module `nowhere_at_all`": {"type": "python", "callable": "nowhere_at_all:find"},
    "has no `walk_about`": {"type": "python", "callable": "os:walk_about"},
    "retrieve.url": {"type": "http"},
    "begins http://": {"type": "http", "url": "localhost:8000"},
    "JMESPath": {"type": "http", "url": "http://localhost:8000/x", "results": "hits["},
    "$NOT_SET_ANYWHERE": {"type": "http", "url": "http://h/x", "api_key_env": "NOT_SET_ANYWHERE"},
    "did you mean `dense`": {"type": "hybrid", "of": ["bm25", "dens"]},
    "did you mean `k1`": {"type": "hybrid", "of": ["dense", {"type": "bm25", "k2": 1}]},
    "at least two": {"type": "hybrid", "of": ["bm25"]},
    "retrieve.encoder: `bm25` uses no sentence encoder": {"type": "bm25", "encoder": "some/model"},
    "retrieve.encoder: no embedded": {"type": "dense", "encoder": "package:no-such-model"},
}  # fmt: skip


@pytest.mark.parametrize("complaint", RETRIEVERS)
def test_a_retriever_that_cannot_work_is_found_before_the_work(tmp_path, tiny_llama, complaint):
    path = example_config(tmp_path / "home", tiny_llama, retrieve=RETRIEVERS[complaint])
    assert complaint in the_error(path)


@pytest.mark.parametrize("kind", ["bm25", "dense", "hybrid"])
def test_who_searches_the_collection_needs_one(tmp_path, tiny_llama, kind):
    path = example_config(tmp_path / "home", tiny_llama, retrieve={"type": kind})
    assert f"retrieval by `{kind}`" in the_error(path, "data.passages=null")


def test_who_brings_passages_needs_no_collection(tmp_path, tiny_llama):
    own = {"type": "http", "url": "http://localhost:8000/search"}
    path = example_config(tmp_path / "home", tiny_llama, retrieve=own)
    assert errors(path, "data.passages=null") == []


def bring(config, rows):
    passages = [{"id": "own", "score": 1.0, "text": "Words of its own."}]
    rows = [{"id": i, "original_id": o, "passages": passages} for i, o in rows]
    return lines(config.parent, "contexts.jsonl", rows)


def test_contexts_for_all_that_is_asked_need_no_collection(config):
    rows = [json.loads(x) for x in (HELPDESK / "qa.jsonl").read_text().splitlines()]
    override = bring(config, [(r["id"], r["id"]) for r in rows])
    sets = [override, "data.passages=null", "data.variations=null"]
    assert errors(config, *sets) == []
    some = bring(config, [(r["id"], r["id"]) for r in rows[1:]])
    assert "data.passages: no passages" in the_error(config, some, *sets[1:])


def test_contexts_of_no_wording_are_noted(config):
    override = bring(config, [("q001", "q001"), ("q001~i_we~0", "q001"), ("strange", "q001")])
    notes = [f.text for f in findings(config, override) if f.level == "note"]
    assert any(n.startswith("data.contexts: 1 of ") for n in notes)
    (other,) = [n for n in notes if "no wording" in n]
    assert "1 entries" in other and "`strange`" in other


def test_missing_contexts_are_an_error(config):
    assert "contexts.jsonl: no such file" in the_error(config, "data.contexts=contexts.jsonl")


@pytest.fixture
def model(config, tiny_llama):
    """(config, a copy of its base that may be spoilt)."""
    folder = config.parent / "model"
    shutil.copytree(tiny_llama, folder)
    return config, folder


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


SPOILT = {
    "no config.json": lambda f: (f / "config.json").unlink(),
    "not valid JSON": lambda f: (f / "config.json").write_text("{"),
    "a JSON object": lambda f: (f / "config.json").write_text("[]"),
    "no *.safetensors": lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
    "auto_map": lambda f: edit(
        f / "config.json", lambda c: c.update(auto_map={"AutoModel": "x.Y"})
    ),
    "layers not found": lambda f: edit(f / "config.json", lambda c: c.pop("num_hidden_layers")),
    "no tokenizer": lambda f: (f / "tokenizer.json").unlink(),
    "model.safetensors": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 100),
}


@pytest.mark.parametrize("complaint", SPOILT)
def test_a_base_that_is_no_model_is_refused_by_name(model, complaint):
    config, folder = model
    SPOILT[complaint](folder)
    message = the_error(config, f"base={folder}")
    assert complaint in message and str(folder) in message


@pytest.mark.parametrize("name", ["no/such-model", "./none", "/none", "package:smol", "a/b/c"])
@pytest.mark.parametrize("field", ["base", "encoder"])
def test_a_model_that_is_not_there_is_refused_before_work_starts(config, field, name):
    message = the_error(config, f"{field}={name}")
    assert message.startswith(f"{field}: ") and name.removeprefix("./") in message


def test_a_base_without_chat_template_goes_on_and_says_so(config, make_model):
    override = f"base={make_model('llama', chat=False)}"
    assert errors(config, override) == []
    notes = [f.text for f in findings(config, override) if f.level == "note"]
    assert any("chat template" in note for note in notes)


def test_a_target_that_is_taken_is_refused_and_left_as_it_is(config):
    taken = config.parent / "run"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    assert "not empty" in the_error(config)
    shutil.rmtree(taken)
    taken.write_text("")
    assert "is a file" in the_error(config)


@pytest.mark.parametrize("place", ["accord.yaml/run", "/proc/run", "/proc/self/run"])
def test_a_target_that_cannot_be_written_is_refused(config, place):
    before = tree(config.parent)
    with pytest.raises(InputError, match=r"cannot be written \(.+\); give another"):
        run(load_config(config), config.parent / place)
    assert tree(config.parent) == before


def test_stages_that_make_no_sense_are_refused(config):
    with pytest.raises(InputError, match="--until train: comes before --from merge"):
        choose("merge", "train", None)
    with pytest.raises(InputError, match="--force vary: is not among"):
        choose("merge", "report", "vary")
    with pytest.raises(InputError, match="needs the stage vary"):
        plan(load_config(config), config.parent / "run", first="train")


COMMAND_LINES = {
    "no such file; `accord init`": ["run", "none.yaml"],
    "qa.jsonl: no such file": ["run", "CONFIG", "--set", "data.qa=qa.jsonl"],
    "`train`": ["run", "CONFIG", "--set", "trian.epochs=1"],
    "no row `Mergd`": ["run", "CONFIG", "--set", "generate.canonical=[B,Mergd]"],
    "no metric `emm`": ["run", "CONFIG", "--set", "evaluate.consistency=[emm]"],
    "--from flea": ["run", "CONFIG", "--from", "flea"],
    "--force evaluat": ["run", "CONFIG", "--force", "evaluat"],
    "is a file; -o wants": ["run", "CONFIG", "-o", "CONFIG"],
    "qa.jsonl line 1: field `query`": ["vary", "bad.jsonl", "-o", "v.jsonl"],
    "`how_to_do`": ["vary", "good.jsonl", "-o", "v.jsonl", "--types", "how_to_doo"],
    "--base-url": ["vary", "good.jsonl", "-o", "v.jsonl", "--types", "semantic"],
    "retrieve needs the stage vary": ["retrieve", "CONFIG", "-o", "fresh"],
    "no such run folder": ["report", "none"],
    "is no run folder": ["report", "."],
    "`methods`": ["list", "method"],
    "answers.jsonl: no such file": [
        "evaluate", "answers.jsonl", "--references", "good.jsonl", "-o", "s.json",
    ],
    "the config of a run": ["merge", "CONFIG", "-o", "merged"],
}  # fmt: skip


@pytest.mark.parametrize("complaint", COMMAND_LINES)
def test_commands_refuse_with_one_sentence_and_write_nothing(config, tmp_path, complaint):
    (tmp_path / "bad.jsonl").write_text('{"id": "q"}\n')
    (tmp_path / "good.jsonl").write_text('{"id": "q", "query": "How do I close it?"}\n')
    before = tree(tmp_path)
    args = [config if a == "CONFIG" else a for a in COMMAND_LINES[complaint]]
    message = refusal(accord(*args, cwd=tmp_path))
    assert complaint.removeprefix("qa.jsonl line 1: ") in message
    after = tree(tmp_path)
    assert after == before


def test_a_secret_on_the_command_line_is_not_repeated_nor_written(config, tmp_path):
    secret = "sk-live-0123456789"
    done = accord("run", config, "-o", tmp_path / "run", "--set", f"generate.api_key={secret}")
    assert "api_key_env" in refusal(done) and secret not in done.stderr
    assert not any(secret.encode() in (data or b"") for data in tree(tmp_path).values())
