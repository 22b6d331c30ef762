"""Data sets of the model hub, from a hub that a process of its own stands in for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import accord, refusal
from hub import serving_hub
from pyarrow import parquet

from accord.config import Config, Data
from accord.configfile import load_config
from accord.errors import InputError
from accord.files.hub import Address, fetch, is_hub, parse, shown
from accord.files.shards import choose, describe

READ = """
import json, sys
from pathlib import Path
from accord.errors import InputError
from accord.records import Question, read_records
for address in sys.argv[1:]:
    try:
        print(json.dumps([q.id for q in read_records(Path(address), Question)]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def put(root, place, ids):
    """A file of questions in a data set of the hub; `place` is REPO@REVISION/FILE."""
    rows = [{"id": i, "query": f"How {i}?"} for i in ids]
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    for repo in ("shards", "plain", "configs", "private-one", "gated-one"):
        (folder / "we" / repo / "main").mkdir(parents=True)
        (folder / "we" / repo / "main" / "README.md").write_text("# Data\n")
    put(folder, "we/shards/main/data/train-00000-of-00002.parquet", ["a", "b"])
    put(folder, "we/shards/main/data/train-00001-of-00002.parquet", ["c"])
    put(folder, "we/shards/main/data/test-00000-of-00001.parquet", ["t"])
    put(folder, "we/shards/refs--convert--parquet/default/train/0000.parquet", ["r"])
    put(folder, "we/plain/main/qa.jsonl", ["p", "q"])
    put(folder, "we/plain/v1/qa.jsonl", ["old"])
    put(folder, "we/plain/main/notes[1].jsonl", ["n"])
    put(folder, "we/configs/main/en/train.jsonl", ["hello"])
    put(folder, "we/configs/main/fr/train.jsonl", ["bonjour"])
    put(folder, "we/private-one/main/train.jsonl", ["secret"])
    put(folder, "we/gated-one/main/train.jsonl", ["terms"])
    put(folder, "we/broken/main/train.jsonl", ["never"])
    put(folder, "we/texts/main/train.csv", ["never"])
    return folder


@pytest.fixture(scope="module")
def hub(root):
    with serving_hub(root) as address:
        yield address


@pytest.fixture
def online(hub, tmp_path):
    """The environment of a user of that hub, with a cache of their own."""
    return {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}


def read(address, env):
    """The ids of the questions at an address, or what the error says."""
    return read_all([address], env)[address]


def read_all(addresses, env):
    """The same of several, by one process."""
    done = subprocess.run(
        [sys.executable, "-c", READ, *addresses],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_TOKEN": "", **env},
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = list(map(json.loads, done.stdout.splitlines()))
    assert not any("\n" in said for said in found)
    return dict(zip(addresses, found, strict=True))


FOUND = {
    "hf://datasets/we/shards?split=train": ["a", "b", "c"],
    "hf:/datasets/we/shards?split=test": ["t"],  # as a path holds it
    "hf://datasets/we/shards/data/train-00001-of-00002.parquet": ["c"],
    "hf://datasets/we/shards@refs/convert/parquet?split=train": ["r"],
    "hf://datasets/we/shards@refs/convert/parquet/default/train/0000.parquet": ["r"],
    "hf://datasets/we/plain/qa.jsonl": ["p", "q"],
    "hf://datasets/we/plain@v1": ["old"],
    "hf://datasets/we/plain/notes[1].jsonl": ["n"],
    "hf://datasets/we/configs?config=fr": ["bonjour"],
}


@pytest.fixture(scope="module")
def once(hub, tmp_path_factory):
    """What is read at all addresses below, by one user."""
    home = str(tmp_path_factory.mktemp("hf"))
    env = {"HF_ENDPOINT": hub, "HF_HOME": home, "HF_HUB_OFFLINE": "0"}
    return read_all([*FOUND, *REFUSED], env)


@pytest.mark.parametrize("address", FOUND)
def test_an_address_is_read(address, once):
    assert once[address] == FOUND[address]


REFUSED = {
    "hf://datasets/we/shards": ("the splits test, train", "?split=test"),
    "hf://datasets/we/shards?split=dev": ("no split `validation`", "test, train"),
    "hf://datasets/we/configs?split=train": ("the configs en, fr", "?config=en"),
    "hf://datasets/we/shards/data/train.parquet": ("no file", "did you mean `data/train-0000"),
    "hf://datasets/we/shards@v9?split=train": ("@v9: no such revision",),
    "hf://datasets/we/nothing?split=train": ("no such data set", "HF_TOKEN"),
    "hf://datasets/we/private-one": ("private", "HF_TOKEN"),
    "hf://datasets/we/gated-one": ("terms", "HF_TOKEN"),
    "hf://datasets/we/broken": ("cannot be had from the hub", "status 500"),
    "hf://datasets/we/texts": ("no .jsonl or .parquet", "refs/convert/parquet"),
    "hf://datasets/we/-.-": ("no name of a data set",),
    "hf://we/shards": ("no address of a data set", "hf://datasets/OWNER/NAME/FILE.jsonl"),
    "hf://datasets/we/shards?part=a": ("`part`", "split and config"),
    "hf://datasets/we/plain/qa.jsonl?split=train": ("has no split",),
    "hf://datasets/we/texts/train.csv": (".jsonl or .parquet",),
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_cannot_be_read_is_one_sentence_with_the_way_out(address, once):
    message = once[address]
    assert message.startswith(address.partition("?")[0].partition("/data/")[0].rstrip("/"))
    for part in REFUSED[address]:
        assert part in message


def test_a_token_comes_from_the_environment(online):
    assert read("hf://datasets/we/private-one", online | {"HF_TOKEN": "hf_test"}) == ["secret"]
    assert read("hf://datasets/we/gated-one", online | {"HF_TOKEN": "hf_test"}) == ["terms"]


def test_only_the_files_of_the_split_are_fetched(online, root):
    (root / "asked").unlink(missing_ok=True)
    read("hf://datasets/we/shards?split=train", online)
    asked = (root / "asked").read_text()
    assert "train-00001-of-00002" in asked and "test-00000" not in asked


@pytest.mark.parametrize(
    "offline", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_what_was_fetched_is_read_offline_and_nothing_else(online, offline):
    address = "hf://datasets/we/shards?split=train"
    whole = read(address, online)
    assert read(address, online | offline) == whole
    assert read("hf://datasets/we/shards/data/train-00001-of-00002.parquet", online | offline) == [
        "c"
    ]
    for other in ("hf://datasets/we/shards?split=test", "hf://datasets/we/plain"):
        message = read(other, online | offline)
        assert "cannot be had from the hub" in message and "HF_HUB_OFFLINE" in message


def test_a_split_of_which_a_file_is_missing_is_not_taken_for_whole_offline(online, tmp_path):
    read("hf://datasets/we/shards?split=train", online)
    (file,) = (tmp_path / "hf").rglob("snapshots/*/data/train-00001-of-00002.parquet")
    file.unlink()
    offline = online | {"HF_HUB_OFFLINE": "1"}
    assert "has not all of it" in read("hf://datasets/we/shards?split=train", offline)


def test_files_that_another_program_fetched_are_read_offline_by_name_only(online):
    fetch = "from huggingface_hub import hf_hub_download as get; get('we/plain', 'qa.jsonl', "
    fetch += "repo_type='dataset')"
    subprocess.run([sys.executable, "-c", fetch], env={**os.environ, **online}, check=True)
    offline = online | {"HF_HUB_OFFLINE": "1"}
    assert read("hf://datasets/we/plain/qa.jsonl", offline) == ["p", "q"]
    assert "has not all of it" in read("hf://datasets/we/plain", offline)


def test_a_branch_that_moved_is_read_anew(online, root):
    put(root, "we/moving/main/train.jsonl", ["before"])
    assert read("hf://datasets/we/moving", online) == ["before"]
    put(root, "we/moving/main/train.jsonl", ["after", "too"])
    assert read("hf://datasets/we/moving", online) == ["after", "too"]


def test_a_mistake_in_a_row_is_named_by_address_and_row(online, root):
    path = root / "we/wrong/main/train.parquet"
    path.parent.mkdir(parents=True)
    rows = [{"id": "a", "query": "How?"}, {"id": "b", "query": None}]
    parquet.write_table(pa.Table.from_pylist(rows), path)
    message = read("hf://datasets/we/wrong", online)
    assert message == "hf://datasets/we/wrong/train.parquet row 2: field `query` is missing"


def test_an_address_stands_on_the_command_line_and_in_a_config(online, tmp_path, root):
    put(root, "we/cli/main/train.jsonl", ["q1"])
    out = tmp_path / "v.jsonl"
    done = accord("vary", "hf://datasets/we/cli", "-o", out, "--types", "how_to_do", env=online)
    assert done.returncode == 0, done.stderr
    wrong = accord("vary", "hf://datasets/we/cli?split=test", "-o", out, env=online)
    assert refusal(wrong).startswith("hf://datasets/we/cli?split=test: has no split `test`")
    (tmp_path / "run.yaml").write_text("base: x\ndata: {qa: 'hf://datasets/we/cli?split=test'}\n")
    checked = accord("check", tmp_path / "run.yaml", env=online)
    assert checked.returncode == 2
    assert "hf://datasets/we/cli?split=test: has no split `test`" in checked.stdout


def test_the_config_of_a_run_reads_back():
    data = Data(qa=["hf://datasets/we/cli?split=train", "/data/qa.jsonl"])
    written = Config(base="b", data=data).model_dump(mode="json")
    assert written["data"]["qa"] == ["hf://datasets/we/cli?split=train", "/data/qa.jsonl"]
    assert Config.model_validate(written).data == data


def test_an_address_is_not_taken_for_a_path_beside_the_config(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "base: x\ndata: {qa: [qa.jsonl, 'hf://datasets/we/cli@v1?config=a&split=b']}\n"
    )
    here, there = load_config(tmp_path / "run.yaml").data.qa
    assert here == tmp_path / "qa.jsonl" and is_hub(there) and not is_hub(here)
    assert parse(there) == Address("we/cli", "v1", None, "b", "a")
    assert shown(there) == "hf://datasets/we/cli@v1?config=a&split=b"


def test_help_loads_neither_pyarrow_nor_the_hub():
    code = "import sys; from accord.cli import main; import atexit; atexit.register(lambda: print("
    code += "sorted({'pyarrow', 'huggingface_hub'} & set(sys.modules)))); sys.argv = ['accord', "
    code += "'--help']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


NAMES = {
    "train.jsonl": ("train", "default"),
    "data/test.jsonl": ("test", "default"),
    "data/train-00000-of-00002.parquet": ("train", "default"),
    "data/train_sft-00000-of-00003-abcdef0123456789.parquet": ("train_sft", "default"),
    "main/validation-00000-of-00001.parquet": ("validation", "main"),
    "default/train/0000.parquet": ("train", "default"),
    "en/extra_split/0001.parquet": ("extra_split", "en"),
    "train/train.jsonl": ("train", "default"),
    "test/part.jsonl": ("test", "default"),
    "my-dev-set.jsonl": ("validation", "default"),
    "eval_questions.jsonl": ("test", "default"),
    "contest.jsonl": ("train", "default"),
    "qa.jsonl": ("train", "default"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_split_and_config(name):
    assert describe(name)[1:] == NAMES[name]


def test_files_of_a_split_come_by_name_and_two_formats_of_it_are_refused():
    shards = [f"data/train-{n:05}-of-00012.parquet" for n in range(12)]
    assert choose([*shards[::-1], "data/test-00000-of-00001.parquet"], "train", None, "x") == shards
    assert choose(["train.jsonl", ".hidden/train.parquet", "_old/train.parquet"], None, None, "x")
    with pytest.raises(InputError, match=r"x: .*\.jsonl and as \.parquet.*one by one"):
        choose(["train.jsonl", "data/train.parquet"], None, None, "x")


@pytest.mark.parametrize("word", ["training", "eval", "val"])
def test_a_split_goes_by_all_its_names(word):
    names = [f"{split}.jsonl" for split in ("train", "test", "validation")]
    (name,) = choose(names, word, None, "x")
    assert name == {"training": "train", "eval": "test", "val": "validation"}[word] + ".jsonl"


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r'pip install "accord\[data\]"'):
        fetch(Path("hf://datasets/we/plain"))
