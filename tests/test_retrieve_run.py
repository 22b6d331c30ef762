"""Retrieval in a run: a callable, a kill, the table, the user's passages, keys."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import HELPDESK
from helpers import ENVIRONMENT, PROGRAM, accord, example_config, refusal

from accord.records import Grounded, Wording, read_records

# In a run


RULES = {
    "vary": {"types": ["how_to_do", "i_we"]},
    "train": {"specialists": {"H": ["how_to_do"], "I": ["i_we"]}},
}
KEPT = "kept, its inputs have not changed"
MODULE = """
import json, os, time
from pathlib import Path
TEXTS = [json.loads(x) for x in Path(os.environ["POOL"]).read_text("utf-8").splitlines()]

def find(query, k):
    with open(os.environ["SEEN"], "a") as file:
        file.write(query + "\\n")
    time.sleep(float(os.environ.get("SLOW", 0)))
    start = len(query) % 5
    return [{"id": "own-" + p["id"], "text": p["text"]} for p in TEXTS[start:start + k]]
"""


@pytest.fixture
def own(tmp_path, tiny_llama, monkeypatch):
    """(config of a run with a callable and no collection, the file of queries seen)."""
    home = tmp_path / "home"
    path = example_config(
        home, tiny_llama, **RULES,
        retrieve={"type": "python", "callable": "my_search:find", "folder": ".", "k": 2},
        data={"passages": None, "variations": None, "qa": str(home / "qa.jsonl")},
    )  # fmt: skip
    rows = [json.loads(x) for x in (HELPDESK / "qa.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        row.pop("context_ids", None)
    (home / "qa.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    (home / "my_search.py").write_text(MODULE)
    monkeypatch.setitem(ENVIRONMENT, "POOL", str(HELPDESK / "passages.jsonl"))
    monkeypatch.setitem(ENVIRONMENT, "SEEN", str(tmp_path / "seen"))
    (tmp_path / "seen").touch()
    return path, tmp_path / "seen"


def test_a_run_with_a_callable_that_brings_its_passages_needs_no_collection(own, tmp_path):
    config, seen = own
    out = tmp_path / "run"
    assert accord("check", config).returncode == 0
    until = accord("run", config, "-o", out, "--until", "retrieve")
    assert until.returncode == 0, until.stderr
    contexts = read_records(out / "retrieve" / "contexts.jsonl", Grounded)
    asked_ = read_records(out / "vary" / "wordings.jsonl", Wording)
    assert [g.id for g in contexts] == [w.id for w in asked_]
    assert all(len(g.passages) == 2 and g.passages[0].text for g in contexts)
    assert (out / "retrieve" / "consistency.jsonl").is_file()
    assert not list((out / "retrieve").glob("found*"))
    # Kept while nothing changes; done again when the code does.
    count = len(seen.read_text().splitlines())
    again = accord("retrieve", config, "-o", out)
    assert KEPT in again.stderr and len(seen.read_text().splitlines()) == count
    code = config.parent / "my_search.py"
    code.write_text(code.read_text() + "\n# another index\n")
    assert KEPT not in accord("retrieve", config, "-o", out).stderr
    assert len(seen.read_text().splitlines()) == 2 * count


def test_a_killed_retrieval_asks_only_the_rest(own, tmp_path):
    config, seen = own
    out = tmp_path / "run"
    assert accord("run", config, "-o", out, "--until", "vary").returncode == 0
    command = [sys.executable, "-c", PROGRAM, "retrieve", str(config), "-o", str(out)]
    process = subprocess.Popen(
        command, env=ENVIRONMENT | {"SLOW": "0.05"}, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 100
    while len(seen.read_text().splitlines()) < 8:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = seen.read_text().splitlines()
    kept = [json.loads(x)["query"] for x in (out / "retrieve" / "found.jsonl").open()]
    assert len(kept) >= len(before) - 1  # all but the query that was being asked
    done = accord("retrieve", config, "-o", out)
    assert done.returncode == 0, done.stderr
    after = seen.read_text().splitlines()[len(before) :]
    assert not set(after) & set(kept)
    asked_ = read_records(out / "vary" / "wordings.jsonl", Wording)
    assert {w.query for w in asked_} <= {*kept, *after}


def test_the_command_shows_the_table_by_kind(config, tmp_path):
    out = tmp_path / "run"
    assert accord("run", config, "-o", out, "--until", "vary").returncode == 0
    shown = accord("retrieve", config, "-o", out, "--set", "retrieve.query=canonical")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^how_to_do +\d+ +1\.000 +1\.000 +1\.000 ", shown.stdout, re.MULTILINE)
    assert "retriever's consistency over" in shown.stderr
    told = json.loads(accord("retrieve", config, "-o", out, "--json").stdout)
    rows = [json.loads(x) for x in (out / "retrieve" / "consistency.jsonl").open()]
    assert told["consistency"]["all"]["n"] == len(rows)
    mean = sum(r["jaccard"] for r in rows) / len(rows)
    assert told["consistency"]["all"]["jaccard"] == pytest.approx(mean)


@pytest.fixture
def config(tmp_path, tiny_llama):
    return example_config(tmp_path / "home", tiny_llama, data={"variations": None}, **RULES)


def test_a_wrong_option_leaves_the_work_of_an_earlier_run(config, tmp_path):
    out = tmp_path / "run"
    assert accord("run", config, "-o", out, "--until", "retrieve").returncode == 0
    before = (out / "retrieve" / "contexts.jsonl").read_bytes()
    said = accord("retrieve", config, "-o", out, "--set", "retrieve.type=python")
    assert "`module:attribute` is wanted" in refusal(said)
    assert (out / "retrieve" / "contexts.jsonl").read_bytes() == before


def test_a_literal_key_of_a_header_never_reaches_a_file(config, tmp_path):
    secret = "s3cret-value"
    lines = f"['Authorization: Bearer {secret}']"
    options = ["--set", "retrieve.type=http", "--set", f"retrieve.headers={lines}"]
    said = accord("run", config, "-o", tmp_path / "run", *options)
    message = refusal(said)
    assert "literal key" in message and secret not in said.stderr
    assert not (tmp_path / "run").exists()


def test_contexts_of_the_user_reach_the_run_and_change_its_key(config, tmp_path):
    out = tmp_path / "run"
    assert accord("run", config, "-o", out, "--until", "retrieve").returncode == 0
    asked_ = read_records(out / "vary" / "wordings.jsonl", Wording)
    (own_,) = [w for w in asked_ if w.split == "test"][:1]
    line = {"id": own_.id, "original_id": own_.original_id,
            "passages": [{"id": "mine", "score": 1.0, "text": "my own words"}]}  # fmt: skip
    file = config.parent / "contexts.jsonl"
    file.write_text(json.dumps(line) + "\n")
    override = ["--set", f"data.contexts={file}"]
    done = accord("retrieve", config, "-o", out, *override)
    assert done.returncode == 0 and KEPT not in done.stderr, done.stderr
    found = {g.id: g for g in read_records(out / "retrieve" / "contexts.jsonl", Grounded)}
    assert [r.id for r in found[own_.id].passages] == ["mine"]
    assert "NAME+canonical are left out" in done.stderr
    assert not (out / "retrieve" / "contexts.canonical.jsonl").exists()
    file.write_text(json.dumps(line | {"passages": []}) + "\n")
    assert KEPT not in accord("retrieve", config, "-o", out, *override).stderr
