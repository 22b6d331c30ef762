"""The whole story on a tiny random model: what a run writes, keeps and does again."""

import json
import random
import subprocess
import sys
import time
from collections import Counter

import pytest
from helpers import ENVIRONMENT, PROGRAM, ROWS, SMALL, accord, example_config, result

from accord.configfile import load_config
from accord.pipeline import run
from accord.records import Answer, Grounded, Wording, read_records

METRICS = ("rouge_l", "bleu", "em", "rs", "bs")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_llama):
    """(config, run folder) of an undisturbed run."""
    home = tmp_path_factory.mktemp("finished")
    config = load_config(example_config(home, tiny_llama))
    run(config, home / "run")
    return config, home / "run"


def wordings(folder):
    return read_records(folder / "vary" / "wordings.jsonl", Wording)


def test_the_table_has_the_eight_rows_of_the_paper_with_numbers(finished):
    rows = json.loads((finished[1] / "table.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ROWS
    for row in rows:
        assert all(0 <= row[metric] <= 1 for metric in METRICS)
        assert row["n"] == 3 and row["pairs"] > 3
        assert all(low <= high for low, high in row["ci"].values())


def test_the_page_is_there_and_loads_nothing(finished):
    page = (finished[1] / "report.html").read_text("utf-8")
    assert "Merged" in page
    assert 'src="http' not in page and "<link" not in page


def test_accord_evaluate_reproduces_every_number_of_the_table(finished, tmp_path):
    config, folder = finished
    answers, scores = folder / "generate" / "answers.jsonl", tmp_path / "scores.json"
    qa = config.data.qa[0]
    done = accord("evaluate", answers, "--references", qa, "-o", scores, "--resamples", 200)
    assert done.returncode == 0, done.stderr
    models = json.loads(scores.read_text())["models"]
    for row in json.loads((folder / "table.json").read_text())["rows"]:
        assert {"name": row["name"], **models[row["name"]]} == row


def test_every_model_answers_every_test_wording_once(finished):
    answers = read_records(finished[1] / "generate" / "answers.jsonl", Answer)
    asked = [w for w in wordings(finished[1]) if w.split == "test"]
    own = {(row, w.id, "own", 0): 1 for row in ROWS for w in asked}
    models = [row for row in ROWS if not row.endswith("+canonical")]
    fixed = {(row, w.id, "original", 0): 1 for row in models for w in asked if w.type}
    assert Counter(a.key for a in answers) == own | fixed
    for answer in answers:
        (wording,) = [w for w in asked if w.id == answer.id]
        assert answer.query == wording.query
        assert answer.original_id == (None if wording.type is None else wording.original_id)


def test_answers_carry_the_passages_that_were_retrieved_for_that_wording(finished):
    found = {}
    for form in ("", ".canonical"):
        grounded = read_records(finished[1] / "retrieve" / f"contexts{form}.jsonl", Grounded)
        found[form] = {g.id: tuple(p.id for p in g.passages) for g in grounded}
    for answer in read_records(finished[1] / "generate" / "answers.jsonl", Answer):
        form = ".canonical" if answer.model.endswith("+canonical") else ""
        with_those_of = answer.original_id if answer.contexts == "original" else answer.id
        assert answer.passages == found[form][with_those_of]


def test_the_table_says_where_the_inconsistency_comes_from(finished):
    rows = json.loads((finished[1] / "table.json").read_text())["rows"]
    how = {row["name"]: row["attribution"]["how"] for row in rows}
    assert all((how[name] == "fixed") != name.endswith("+canonical") for name in ROWS)


def test_nothing_from_test_is_in_training_or_development(finished):
    asked = wordings(finished[1])
    test = [w for w in asked if w.split == "test"]
    others = [w for w in asked if w.split != "test"]
    assert {w.original_id for w in test}.isdisjoint(w.original_id for w in others)
    assert {w.query.casefold() for w in test}.isdisjoint(w.query.casefold() for w in others)


def test_every_variation_is_in_its_originals_split_and_half(finished):
    asked = wordings(finished[1])
    originals = {w.id: w for w in asked if w.type is None}
    for w in asked:
        original = originals[w.original_id]
        assert (w.split, w.part) == (original.split, original.part)
    assert {w.part for w in asked if w.split == "dev"} == {"fit", "select"}


def test_the_resolved_config_of_a_run_is_the_config(finished):
    from accord.runs import read_config

    assert read_config(finished[1]) == finished[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_commands_killed_at_random_moments_end_the_same(tmp_path, tiny_llama):
    import yaml

    path = example_config(tmp_path / "home", tiny_llama, **SMALL)
    tree = yaml.safe_load(path.read_text())
    tree["generate"] = {"backend": "transformers", "max_new_tokens": 4, "workers": 1}
    path.write_text(yaml.safe_dump(tree))

    def start(folder):
        command = [sys.executable, "-c", PROGRAM, "run", str(path), "-o", str(folder), "-q"]
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)

    began = time.monotonic()
    assert start(tmp_path / "calm").wait(300) == 0
    whole = time.monotonic() - began
    moments = random.Random(0)
    for number in range(3):
        folder = tmp_path / f"run{number}"
        for _ in range(3):
            process = start(folder)
            time.sleep(moments.uniform(0.2, 0.9) * whole)
            process.kill()
            process.wait()
        assert start(folder).wait(300) == 0
        assert result(folder) == result(tmp_path / "calm")
