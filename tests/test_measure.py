"""`accord evaluate` and `accord compare` on files: options, exit codes, bad input, output."""

import json
import xml.etree.ElementTree as ET

import pytest
from test_endpoint import Answer, Server
from typer.testing import CliRunner

from accord.cli import app

TEXT = "press the red button twice then wait for thirty seconds before you open lid"
WORDS = TEXT.split()
RUNNER = CliRunner()


def line(model, id_, text, original=None, **extra):
    record = {"model": model, "id": id_, "original_id": original, "query": f"ask {id_}"}
    kind = extra.pop("type", "semantic") if original else None
    return {**record, "type": kind, "answer": text, **extra}


def lines(models=("B", "Merged"), questions=40, shift=0):
    """Answers whose variations drop a word more often for the first model than for the last."""
    found = []
    for rank, model in enumerate(models):
        for q in range(questions):
            text = " ".join(WORDS[(q + i + shift) % len(WORDS)] for i in range(8))
            found.append(line(model, f"q{q}", text))
            for v in range(2):
                broken = (q * 7 + v * 3 + rank) % (3 + 4 * rank) == 0
                said = " ".join(text.split()[::-1]) if broken else text
                kind = ("how_to_do", "semantic")[v]
                found.append(line(model, f"q{q}.{v}", said, f"q{q}", type=kind))
    return found


def write(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    qa = [{"id": f"q{q}", "query": f"ask q{q}", "answer": " ".join(WORDS[:8])} for q in range(40)]
    return {
        "answers": write(tmp_path / "answers.jsonl", lines()),
        "qa": write(tmp_path / "qa.jsonl", qa),
        "out": tmp_path / "scores.json",
        "folder": tmp_path,
    }


def run(*words, code=0):
    done = RUNNER.invoke(app, [str(word) for word in words])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def score(files, *words, code=0):
    given = ["evaluate", files["answers"], "--references", files["qa"], "-o", files["out"]]
    quick = ["--encoder", "none", "--resamples", 100]
    return run(*given, *quick, *words, code=code)


def written(files):
    return json.loads(files["out"].read_text("utf-8"))


def refused(done):
    """The one sentence of a refusal."""
    assert "Traceback" not in done.output
    message = done.stderr.strip()
    assert message.startswith("accord: ") and "\n" not in message
    return message


def test_scores_are_written_and_shown(files):
    shown = score(files).stdout
    assert all(word in shown for word in ("ROUGE-L", "40 questions", "Merged minus", "how_to_do"))
    scores = written(files)
    assert list(scores["models"]) == ["B", "Merged"]
    assert scores["comparisons"]["focus"] == "Merged"
    assert scores["models"]["B"]["pairs"] == 80
    assert json.loads(score(files, "--json").stdout) == scores


def test_unseen_kinds_have_a_column_of_their_own(files):
    shown = score(files, "--trained", "how_to_do").stdout
    assert "unseen kinds" in shown
    unseen = written(files)["models"]["B"]["unseen"]
    assert unseen["rs"] == written(files)["models"]["B"]["by_type"]["semantic"]["rs"]
    assert unseen["pairs"] == 40


def test_seeds_are_files_of_one_recipe(files):
    other = write(files["folder"] / "seed1.jsonl", lines(shift=3))
    score(files, other)
    seeds = written(files)["models"]["Merged"]["seeds"]
    assert list(seeds) == ["answers", "seed1"]
    mean = sum(own["rouge_l"] for own in seeds.values()) / 2
    assert written(files)["models"]["Merged"]["rouge_l"] == pytest.approx(mean)


def test_the_same_seed_twice_is_warned_of(files):
    copy = write(files["folder"] / "copy.jsonl", lines())
    score(files, copy)
    assert any("copy" in warning for warning in written(files)["warnings"])


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        ("rs >= .01", 0),
        ("rs >= .99", 3),
        ("rouge_l >= .1 and em not worse than B by 0.5", 0),
        ("em better than B by .9", 3),
        ("worst.rs <= 1", 0),
        ("by_type.semantic.rs >= .2", 0),
    ],
)
def test_gate_decides_the_exit_code(files, gate, code):
    done = score(files, "--gate", gate, code=code)
    assert ("FAILED" in done.stderr) == (code == 3)
    assert written(files)["gate"]["passed"] == (code == 0)
    assert files["out"].with_suffix(".md").read_text("utf-8").startswith("### accord gate")


def test_gate_is_decided_on_the_interval_not_on_the_point(files):
    score(files)
    row = written(files)["models"]["Merged"]
    between = (row["ci"]["rs"][0] + row["rs"]) / 2
    assert row["ci"]["rs"][0] < between < row["rs"]
    done = score(files, "--gate", f"rs >= {between}", code=3)
    assert "point value" in done.stderr


def test_gate_against_a_baseline_of_the_same_answers(files):
    junit = files["folder"] / "gate.xml"
    options = ["--baseline", files["answers"], "--junit", junit]
    score(files, "--gate", "rs not worse than BASELINE by 0.01", *options)
    score(files, "--gate", "rs better than BASELINE", *options, code=3)
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite.get("failures") == "1"


def test_gate_sees_a_worse_baseline(files):
    base = write(files["folder"] / "base.jsonl", lines(models=("B",)))
    options = ["--baseline", base, "--gate-model", "Merged"]
    score(files, "--gate", "rs better than BASELINE", *options)
    score(
        files, "--gate", "rs better than BASELINE", "--baseline", base, "--gate-model", "B", code=3
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gate", "rs => .4"], ["`=>`"]),
        (["--gate", "rsx >= .4"], ["rsx", "rs"]),
        (["--gate", "rs not worse than BASELINE by .1"], ["--baseline"]),
        (["--gate", "rs not worse than Nobody by .1"], ["Nobody", "`B`"]),
        (["--gate", "judge better than B"], ["judge", ">="]),
        (["--gate", "rs >= .4", "--gate-model", "Nobody"], ["Nobody", "`Merged`"]),
        (["--junit", "x.xml"], ["--junit", "--gate"]),
        (["--judge-model", "x"], ["--judge-model", "--judge"]),
        (["--judge-key-env", "X"], ["--judge-key-env", "--judge"]),
        (["--precision", ".8"], ["--calibrate"]),
        (["--judge", "http://localhost:9"], ["--judge-model"]),
        (["--consistency", "emm"], ["emm", "`em`"]),
        (["--accuracy", "rs"], ["rs", "consistency"]),
        (["--focus", "Nobody"], ["Nobody", "`Merged`"]),
        (["--T", "1"], ["T"]),
    ],
)
def test_refusals_name_the_option_and_the_way_out_and_write_nothing(files, options, words):
    message = refused(score(files, *options, code=2))
    assert all(word in message for word in words), message
    assert not files["out"].exists()


def test_bad_gates_are_found_before_the_answers_are_read(files):
    files["answers"].write_text("not json\n")
    assert "--gate" in refused(score(files, "--gate", "rs", code=2))


def labelled(path, pairs):
    return write(path, [dict(zip(("a", "b", "equivalent"), pair, strict=True)) for pair in pairs])


@pytest.fixture
def labels(tmp_path):
    """RS separates these above .5: same words but one, or other words."""
    pairs = []
    for i in range(30):
        text = " ".join(WORDS[(i + j) % len(WORDS)] for j in range(8))
        pairs.append((text, text.replace("the", "a") + " please", True))
        pairs.append((text, f"{text.split()[0]} is something else altogether here {i}", False))
    return labelled(tmp_path / "labelled.jsonl", pairs)


def test_calibration_alone(labels):
    done = run("evaluate", "--calibrate", labels, "--json", "--resamples", 100)
    found = json.loads(done.stdout)["calibration"]
    assert 0 < found["threshold"] < 0.9
    assert (found["n"], found["positives"]) == (60, 30)
    assert "threshold" in run("evaluate", "--calibrate", labels, "--resamples", 100).stdout.lower()


def test_the_calibrated_threshold_is_used(files, labels):
    score(files, "--calibrate", labels)
    scores = written(files)
    assert scores["signatures"]["T"] == scores["calibration"]["threshold"] != 0.7
    score(files, "--calibrate", labels, "--T", 0.6)
    assert written(files)["signatures"]["T"] == 0.6


def test_calibration_of_a_field_of_the_file(tmp_path):
    pairs = [
        {"a": "x", "b": "y", "equivalent": i % 2 == 0, "mine": i % 2 * -1.0} for i in range(20)
    ]
    pairs[3]["mine"] = float("nan")
    path = write(tmp_path / "l.jsonl", pairs)
    words = ["--calibrate", path, "--calibrate-metric", "mine", "--json", "--resamples", 100]
    found = json.loads(run("evaluate", *words).stdout)["calibration"]
    assert found["unscored"] == 1
    assert -1 <= found["threshold"] < 0


@pytest.mark.parametrize(
    ("pairs", "options", "words"),
    [
        ([("a", "a", True), ("b", "b", True)], [], ["equivalent"]),
        ([("a", "a", "yes")], [], ["line 1", "equivalent"]),
        ([], [], ["no pairs"]),
        (
            [("a", "a", True), ("a", "b", False)],
            ["--calibrate-metric", "contaiment"],
            ["containment"],
        ),
        ([("a", "a", True), ("a", "b", False)], ["--precision", 0], ["precision"]),
    ],
)
def test_refusals_of_calibration(tmp_path, pairs, options, words):
    path = labelled(tmp_path / "l.jsonl", pairs)
    message = refused(run("evaluate", "--calibrate", path, *options, code=2))
    assert all(word in message for word in words), message


def test_unreachable_precision_does_not_guess_a_threshold(files, tmp_path):
    path = labelled(tmp_path / "l.jsonl", [("a b", "a b", i % 2 == 0) for i in range(40)])
    message = refused(score(files, "--calibrate", path, code=2))
    assert "--precision" in message or "--T" in message
    assert not files["out"].exists()


def test_compare_two_models_of_one_file(files):
    words = ["compare", files["answers"], files["answers"], "--references", files["qa"]]
    words += ["--model-a", "Merged", "--model-b", "B", "--encoder", "none"]
    out = files["folder"] / "compared.json"
    done = run(*words, "-o", out)
    assert "Merged minus B" in done.stdout and "On 40 questions" in done.stdout
    found = json.loads(out.read_text("utf-8"))
    assert found["sentence"] in " ".join(done.stdout.split()) or len(found["sentence"]) > 80
    own = found["differences"]["rs"]
    assert own["difference"] == pytest.approx(own["a"] - own["b"])
    assert run(*words, "--json").stdout == json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def test_compare_leaves_out_what_was_asked_otherwise_and_counts_it(files):
    other = lines(models=("B",))
    other[0]["query"] = "asked otherwise"
    del other[3:6]
    path = write(files["folder"] / "other.jsonl", other)
    words = ["compare", files["answers"], path, "--references", files["qa"], "--model", "B"]
    found = json.loads(run(*words, "--encoder", "none", "--json").stdout)["differences"]
    assert found["left_out"]["asked_in_other_words"] == 1
    assert found["questions"] == 38
    assert found["pairs"] == 76


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--model", "Nobody"], "Nobody"),
        (["--model", "B"], "both sides"),
    ],
)
def test_refusals_of_compare(files, words, part):
    given = ["compare", files["answers"], files["answers"], "--references", files["qa"]]
    assert part in refused(run(*given, "--encoder", "none", *words, code=2))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda own: [*own, own[0]], "occurs twice"),
        (lambda own: [{**own[0], "id": "zz"}], "not among the references"),
        (lambda own: [{k: v for k, v in own[0].items() if k != "answer"}], "`answer` is missing"),
        (lambda own: [{**own[0], "answer": None}], "`answer`"),
        (lambda own: [{**own[0], "repeat": float("nan")}], "repeat"),
        (lambda own: [], "there are none"),
        (lambda own: [own[0], {**own[1], "model": "Z", "query": "else"}], "`q0.0`"),
    ],
)
def test_bad_answers_are_named(files, change, part):
    changed = change(lines(models=("B",)))
    if part == "`q0.0`":
        changed.append({**changed[1], "model": "B", "query": "ask q0.0"})
    write(files["answers"], changed)
    assert part in refused(score(files, code=2))


def test_a_line_that_is_not_utf8_is_named(files):
    with files["answers"].open("ab") as file:
        file.write('{"model": "B", "answer": "é"}'.encode("latin-1") + b"\n")
    message = refused(score(files, code=2))
    assert "answers.jsonl line 241" in message and "UTF-8" in message


def test_utf8_with_a_mark_is_read(files):
    files["answers"].write_bytes(b"\xef\xbb\xbf" + files["answers"].read_bytes())
    score(files)


def test_answers_missing_for_one_model_are_left_out_for_all_and_counted(files):
    own = [a for a in lines() if (a["model"], a["id"]) not in {("B", "q3"), ("Merged", "q5.1")}]
    write(files["answers"], own)
    shown = score(files).stdout
    models = written(files)["models"]
    assert models["B"]["questions"] == models["Merged"]["questions"] == 39
    assert models["B"]["pairs"] == models["Merged"]["pairs"] == 77
    assert models["B"]["missing_pairs"] == 2
    assert models["B"]["left_out"] == {"questions": 0, "pairs": 1}
    assert models["Merged"]["left_out"] == {"questions": 1, "pairs": 2}
    assert "left out" in shown


def test_an_answer_of_100000_characters(files):
    own = lines(models=("B",))
    own[0]["answer"] = "word " * 20000
    own[1]["answer"] = "word other " * 9000
    write(files["answers"], own)
    score(files)
    assert written(files)["models"]["B"]["pairs"] == 80
    assert len(files["out"].read_text("utf-8")) < 100_000


def verdict(number, prompt):
    """Answers agree if the prompt holds one of its two answers twice; wild on every 50th."""
    same = len({part for part in prompt.splitlines() if part.startswith(tuple(WORDS))}) == 1
    return Answer("maybe" if number % 50 == 0 else json.dumps({"equivalent": same}))


def test_a_judge_is_a_score_like_any_other(files, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    labels = labelled(files["folder"] / "l.jsonl", [("a", "a", True), ("a b", "c d", False)])
    with Server(verdict) as server:
        words = ["--judge", server.url, "--judge-model", "m", "--judge-key-env", "JUDGE_KEY"]
        words += ["--judge-labels", labels, "--gate", "judge >= 0.01"]
        score(files, *words)
        first, asked = written(files), len(server.requests)
        score(files, *words)
        assert len(server.requests) == asked  # every verdict was kept
    row = first["models"]["Merged"]
    assert 0 < row["judge"] <= 1 and row["ci"]["judge"] and row["by_type"]["semantic"]["judge"]
    assert first["comparisons"]["against"]["B"]["judge"]["p"] is not None
    assert first["judge"]["self_agreement"]["agreement"] == 1.0
    assert first["judge"]["labels"]["n"] == 2
    again = written(files)
    assert again["models"] == first["models"]
    assert again["judge"]["from_cache"] == again["judge"]["asked"] + again["judge"]["from_cache"]
    kept = [path.read_bytes() for path in files["folder"].iterdir() if path.is_file()]
    assert not any(b"sk-secret" in text for text in kept)
