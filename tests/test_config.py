"""The config: precedence, defaults, nearest right names, no secrets."""

import json
import re
from pathlib import Path
from typing import Literal, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from accord.config import Config, Section
from accord.configfile import load_config
from accord.errors import InputError
from accord.runs import Run, read_config

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "examples").rglob("*.yaml"))
SECRET = "sk-live-0123456789"


def write(folder, **sections):
    tree = {"base": "package:smollm2-135m-instruct", "data": {"qa": "qa.jsonl"}} | sections
    path = folder / "accord.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def refused(path, *sets, **options):
    with pytest.raises(InputError) as caught:
        load_config(path, sets, **options)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.parent.name)
def test_every_shipped_config_parses(path):
    assert load_config(path).data.qa[0].is_file()


def test_defaults_are_those_of_the_interface(tmp_path):
    config = load_config(write(tmp_path)).model_dump(mode="json")
    promised = {
        "seed": 0,
        "data.split": {"train": 0.6, "dev": 0.15, "test": 0.25},
        "vary.types": ["how_to_do", "i_we", "singular_plural_article", "semantic"],
        "retrieve.type": "bm25",
        "retrieve.k": 3,
        "train.loss": "triplet",
        "train.epochs": 2,
        "train.specialists": {
            "HTD": ["how_to_do", "i_we"],
            "SEM": ["semantic"],
            "SPA": ["singular_plural_article"],
        },
        "weigh.type": "paper",
        "weigh.similarity": "standardized",
        "weigh.pool": "max",
        "merge.method": "dare_ties",
        "merge.outside_layers": "mean",
        "generate.backend": "transformers",
        "generate.max_new_tokens": 128,
        "generate.contexts": ["own", "original"],
        "generate.repeat": 1,
        "evaluate.T": 0.7,
    }
    for name, value in promised.items():
        found = config
        for part in name.split("."):
            found = found[part]
        assert found == value, name


def test_component_defaults_are_those_of_the_interface():
    from accord.registry import component

    promised = {
        ("methods", "dare_ties"): {"density": 0.8, "elect": "unweighted", "normalize": False},
        ("weightings", "paper"): {"a": 2, "b": -1},
        ("backends", "transformers"): {"dtype": "float32"},
    }
    for (kind, name), options in promised.items():
        found = component(kind, name, "").options
        assert {o: found[o].default for o in options} == options


def test_yaml_wins_over_defaults_and_set_over_yaml_and_flags_over_set(tmp_path):
    path = write(tmp_path, seed=1, train={"alpha": 0.3, "epochs": 7})
    assert load_config(path).seed == 1
    config = load_config(path, ["train.alpha=0.5", "seed=2", "data.limit.train=30"], limit=5)
    assert (config.train.options, config.train.epochs) == ({"alpha": 0.5}, 7)
    assert config.seed == 2
    assert config.data.limit.model_dump() == {"train": 5, "dev": 5, "test": 5}
    assert load_config(path, ["seed=2"], seed=3).seed == 3
    assert load_config(path, ["data.limit.train=3"], limit=5).data.limit.train == 3


@given(st.floats(0, 100), st.integers(1, 99), st.integers(0, 2**63 - 1))
def test_set_reads_values_as_yaml_does(alpha, epochs, seed):
    sets = [f"train.alpha={alpha!r}", f"train.epochs={epochs}", f"seed={seed}"]
    config = load_config(SHIPPED[0], sets)
    given = config.train.options["alpha"], config.train.epochs, config.seed
    assert given == (alpha, epochs, seed)


def test_paths_are_relative_to_the_file_and_not_to_the_shell(tmp_path, monkeypatch):
    home = tmp_path / "a"
    (home / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    data = {"qa": ["x.jsonl", "/abs/y.jsonl"], "passages": "p.jsonl", "contexts": "c.jsonl"}
    retrieve = {"type": "python", "callable": "m:f", "folder": ".", "encoder": "model"}
    path = write(home, base="model", data=data, prompt={"template": "t.jinja"}, retrieve=retrieve)
    config = load_config(Path("a/accord.yaml"))
    assert config.data.qa == (home / "x.jsonl", Path("/abs/y.jsonl"))
    assert config.data.passages == (home / "p.jsonl",)
    assert config.data.contexts == (home / "c.jsonl",)
    assert config.retrieve.options["folder"] == home and config.retrieve.encoder == str(
        home / "model"
    )
    assert config.prompt.template == home / "t.jinja"
    assert config.base == str(home / "model")
    assert load_config(path) == config


def test_options_of_components_get_the_types_of_the_signature(tmp_path):
    kind = {"type": "semantic", "k": "3", "prompt": "ask.jinja", "temperature": 1}
    path = write(tmp_path, vary={"types": [kind]}, train={"specialists": {"SEM": ["semantic"]}},
                 retrieve={"type": "bm25", "k1": "0.9"})  # fmt: skip
    config = load_config(path)
    ((name, options),) = config.vary.components()
    assert name == "semantic"
    assert options == {"k": 3, "prompt": tmp_path / "ask.jinja", "temperature": 1.0}
    assert config.retrieve.options == {"k1": 0.9}


MISTAKES = {
    "trane.alpha=1": "`train`",
    "train.alhpa=1": "`alpha`",
    "data.split.trian=1": "`train`",
    "data.limit.tests=1": "`test`",
    "prompt.max_token=99": "`max_tokens`",
    "merge.method=dare_tie": "`dare_ties`",
    "merge.densty=1": "`density`",
    "merge.outside_layer=mean": "`outside_layers`",
    "retrieve.type=bm52": "`bm25`",
    "retrieve.kk=2": "`k`",
    "weigh.type=papers": "`paper`",
    "weigh.similarity=standardised": "`standardized`",
    "weigh.pol=max": "`pool`",
    "generate.backend=transformer": "`transformers`",
    "generate.max_new_token=3": "`max_new_tokens`",
    "generate.worker=1": "`workers`",
    "vary.types=[how_to]": "`how_to_do`",
    "vary.types=[{type: semantic, temprature: 1}]": "`temperature`",
    "train.specialists={HTD: [how_to]}": "`how_to_do`",
    "evaluate.t=0.5": "`T`",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_an_unknown_name_names_the_nearest_right_one(tmp_path, override):
    message = refused(write(tmp_path), override)
    assert "accord.yaml" in message
    assert MISTAKES[override] in message


OUT_OF_RANGE = """
train.epochs=0 train.alpha=-1 train.margin=0 train.alpha=much train.micro_batch_size=3
retrieve.k=0 retrieve.k1=-1 retrieve.b=1.5 merge.density=0 merge.density=2 merge.elect=most
weigh.pool=min generate.max_new_tokens=0 generate.batch_size=0 generate.dtype=int8
evaluate.T=1 evaluate.resamples=1 seed=-1 seed=99999999999999999999 data.limit.dev=0
data.split.test=0.9 data.qa=[] base=5 base= train.specialists={}
train.specialists={ALL:[i_we]} train.specialists={a/b:[i_we]} vary.types=5 train=5
vary.max_per_question=0
"""


@pytest.mark.parametrize("override", OUT_OF_RANGE.split())
def test_a_value_out_of_range_names_the_field(tmp_path, override):
    override = override.replace(":[", ": [")
    message = refused(write(tmp_path), override)
    field = override.partition("=")[0]
    parts = [part for part in field.split(".") if part in message]
    assert parts, message  # the field, or the section for a rule about several fields
    assert "pydantic" not in message


LITERAL_KEYS = {
    "vary": {"types": [{"type": "semantic", "api_key": SECRET}]},
    "generate": {"api_key": SECRET},
    "retrieve": {"headers": {"Authorization": f"Bearer {SECRET}"}},
    "prompt": {"template": f"https://host/x?api_key={SECRET}"},
    "data": {"qa": [f"X-Api-Key: {SECRET}"]},
    "token": SECRET,
    "merge": {"hf_token": SECRET},
    "report": {"x-api-key": SECRET},
    "weigh": {"password": SECRET},
    "encoder": f"https://{SECRET}@example.org/model",
    "base": f"https://me:{SECRET}@example.org/model",
}


@pytest.mark.parametrize("section", LITERAL_KEYS)
def test_a_literal_key_is_refused_and_not_repeated(tmp_path, section):
    message = refused(write(tmp_path, **{section: LITERAL_KEYS[section]}))
    assert section in message and "api_key_env" in message


@pytest.mark.parametrize(
    "override",
    [
        f"vary.types=[{{type: semantic, api_key: {SECRET}}}]",
        f"generate.api_key={SECRET}",
        f"vary.types=[{{type: semantic, base_url: 'https://u:{SECRET}@host/v1'}}]",
        f"vary.types=[{{type: semantic, api_key_env: {SECRET}}}]",
        f"api_key {SECRET}",
        f"generate.api_key: {SECRET}",
    ],
)
def test_a_literal_key_by_set_is_refused_and_not_repeated(tmp_path, override):
    refused(write(tmp_path), override)


def test_the_name_of_a_variable_is_no_secret(tmp_path):
    kind = {"type": "semantic", "api_key_env": "MY_KEY", "base_url": "http://localhost:1/v1"}
    load_config(write(tmp_path, vary={"types": ["how_to_do", "i_we", kind]}), [
        "train.specialists={HTD: [how_to_do]}", "prompt.max_tokens=100",
    ])  # fmt: skip


def sections(kind=Config):
    yield kind
    for field in kind.model_fields.values():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from sections(inner)


@pytest.mark.parametrize("section", list(dict.fromkeys(sections())), ids=lambda s: s.__name__)
def test_every_section_and_field_is_described(section):
    assert issubclass(section, Section)
    assert section.__doc__
    undescribed = [n for n, f in section.model_fields.items() if not f.description]
    assert not undescribed


def test_every_choice_has_its_default_among_them():
    for section in set(sections()):
        for name, field in section.model_fields.items():
            choices = [a for a in (field.annotation, *get_args(field.annotation))
                       if getattr(a, "__origin__", None) is Literal]  # fmt: skip
            given = field.default if isinstance(field.default, tuple) else (field.default,)
            for choice in choices:
                assert {*given} <= {*get_args(choice), None}, (section, name)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.parent.name)
@pytest.mark.parametrize(
    "sets",
    [
        [],
        ["data.limit=null", "train.loss=ce"],
        ["vary.types=[i_we, {type: semantic, k: 3, base_url: 'http://h/v1', model: m}]",
         "train.specialists={X: [i_we]}", "merge.density=0.5", "retrieve.k1=1.2"],
    ],
)  # fmt: skip
def test_the_resolved_config_round_trips_through_a_run_folder(tmp_path, path, sets):
    config = load_config(path, sets)
    run = Run(tmp_path / "run")
    run.open(config.model_dump(mode="json"))
    run.close()
    assert read_config(tmp_path / "run") == config


def test_no_value_of_the_environment_is_in_the_resolved_config(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    kind = {"type": "semantic", "api_key_env": "MY_KEY", "model": "m", "base_url": "http://h/v1"}
    path = write(tmp_path, vary={"types": [kind]}, train={"specialists": {"S": ["semantic"]}})
    assert SECRET not in json.dumps(load_config(path).model_dump(mode="json"))


BROKEN_YAML = {
    "base: [1": r"line 1",
    "a: b\n\tc: d": r"line 2",
    "- just\n- a list": "mapping",
    "": "mapping",
    "'text'": "mapping",
    "base: x\nbase: \x00": "accord.yaml",
}


@pytest.mark.parametrize("text", BROKEN_YAML)
def test_a_broken_yaml_names_the_line(tmp_path, text):
    path = tmp_path / "accord.yaml"
    path.write_text(text)
    assert re.search(BROKEN_YAML[text], refused(path))


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("base: é".encode("latin-1"))
    (tmp_path / "file").write_text("")
    assert "accord init" in refused(tmp_path / "none.yaml")
    assert "folder" in refused(tmp_path)
    assert "UTF-8" in refused(tmp_path / "latin.yaml")
    assert "cannot be read" in refused(tmp_path / "file" / "accord.yaml")
    assert "--limit" in refused(write(tmp_path), limit=0)


def test_an_empty_section_is_refused_with_its_name(tmp_path):
    assert "train" in refused(write(tmp_path, train=None))
