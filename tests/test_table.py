import random
from io import StringIO

import pytest
from rich.console import Console
from test_answers import answer, data
from test_attribution import full
from test_evaluate import LETTERS, quick

from accord.evaluate.answers import entrants
from accord.evaluate.attributed import percent, sentence
from accord.evaluate.compare import compare
from accord.evaluate.scoring import choose
from accord.evaluate.shown import scored
from accord.evaluate.table import differences, footnote, notes, number, render, rows, table


def show(content, make=render, width=100):
    console = Console(file=StringIO(), width=width)
    console.print(make(content))
    return console.file.getvalue()


def squeezed(shown):
    return " ".join(shown.split())


def test_rows_follow_the_order_and_lose_none():
    scores = quick(*data(models=("B", "SFT", "ALL")))
    found = rows(scores, ["Merged", "ALL", "B", "ALL"])
    assert [row["name"] for row in found] == ["ALL", "B", "SFT"]
    assert found[1] == {"name": "B", **scores["models"]["B"]}
    assert set(table(scores)) == {
        "rows", "comparisons", "detectable", "pareto", "warnings", "signatures"
    }  # fmt: skip


def test_a_small_table_says_that_it_is_no_evidence():
    shown = squeezed(show(table(quick(*data()))))
    assert (
        "12 questions, 24 pairs, 1 seed: shows that the pipeline runs; it is no evidence" in shown
    )
    assert "Smallest detectable difference" in shown
    assert "BS -" in shown
    assert "warning: 12 questions: with fewer than 20" in shown


def test_every_score_and_its_interval_is_shown():
    content = table(quick(*data(questions=120), resources=LETTERS))
    shown = squeezed(show(content))
    assert "no evidence" not in shown
    assert "120 questions, 240 pairs, 1 seed; 95 % intervals over questions" in shown
    for row in content["rows"]:
        for metric in ("rouge_l", "bleu", "em", "rs", "bs"):
            low, high = (number(end, 2) for end in row["ci"][metric])
            assert f"{number(row[metric])} [{low}-{high}]" in shown
        for part in (row["by_type"]["semantic"], row["group"], row["worst"]):
            assert number(part["rs"]) in shown
    against = content["comparisons"]["against"]["SFT"]
    low, high = against["em"]["ci"]
    star = " *" if against["em"]["claim"] else ""
    size = number(abs(against["em"]["difference"]))
    assert f"-{size} ±{number((high - low) / 2)}{star}" in shown
    assert f"EM {number(content['detectable']['em'])}" in footnote(content)


def widest(**changes):
    answers, references = data(questions=120, models=("a rather long model name [bold]", "B"))
    content = table(quick(answers, references, resources=LETTERS, trained=["how_to_do"]))
    content["rows"][0].update(em=1.0, n=99999, pairs=999999, questions=99999, **changes)
    content["rows"][0]["ci"]["em"] = [0.991, 1.0]
    entry = content["comparisons"]["against"]["B"]["em"]
    entry |= {"difference": -1.0, "ci": [-1.0, 1.0], "claim": "worse"}
    return content


def test_the_widest_table_fits_a_hundred_columns():
    shown = show(widest(noise_floor={"em": 1.0, "rs": 0.5, "bs": None}))
    assert max(map(len, shown.splitlines())) <= 100
    assert "1.00 [.99-1.0]" in shown
    assert "999999" in shown
    assert "-1.00 ±1.00 *" in shown
    assert "floor 1.00" in shown
    assert "unseen kinds" in shown
    assert "…" not in shown
    assert "no evidence" not in shown
    assert "[bold]" in "".join(line[:12].strip() for line in shown.splitlines())


def test_many_kinds_of_rewording_stand_in_several_tables():
    answers = [answer("B", f"q{i}", "x") for i in range(3)]
    kinds = [f"kind_number_{k}" for k in range(11)]
    answers += [answer("B", f"q{i}.{k}", "x", f"q{i}", type=k) for i in range(3) for k in kinds]
    content = table(quick(answers, dict.fromkeys(["q0", "q1", "q2"])))
    shown = show(content)
    assert max(map(len, shown.splitlines())) <= 100
    assert shown.count("RS, continued") == 2
    assert all(kind in shown for kind in kinds)
    assert shown.count(" 3 pairs") == 11
    assert shown.count("3 questions") >= 2  # all wordings, worst pair


def test_a_table_without_pairs_or_references_renders():
    answers, references = data()
    originals = [a for a in answers if a.original_id is None]
    for content in (
        table(quick(originals, references)),
        table(quick(answers, dict.fromkeys(references))),
        table(quick(answers, references, accuracy=(), consistency=("em",))),
        table(quick([answer("B", "v0", "yes", "q0")], {"q0": "yes"})),
    ):
        shown = show(content)
        assert max(map(len, shown.splitlines())) <= 100
        assert content["rows"][0]["name"] in shown


def test_notes_count_what_was_left_out_by_name():
    answers, references = data(models=("B", "SFT"))
    lacking = [a for a in answers if (a.model, a.id) not in {("SFT", "q2"), ("SFT", "q4.1")}]
    lacking.append(answer("B", "q0", "x", contexts="gold"))
    lacking[0] = lacking[0].model_copy(update={"answer": ""})
    content = table(quick(lacking, references, consistency=("em", "rs")))
    content["rows"][1] |= {"unscored": {"bs": 4}, "guard": {"numbers": 2, "yes_no": 1}}
    lines = notes(content)
    assert "B: 1 empty answer; 1 question left out; 4 pairs left out" in lines
    assert (
        "SFT: 3 variations without an answer to the original; BS unscored on 4; refused as "
        "equivalent by the guard: numbers 2, yes_no 1"
    ) in lines
    assert "1 answer with other contexts set aside" in lines
    assert lines[-1].startswith("Pareto front of ROUGE-L and RS: ")


def test_notes_are_silent_where_nothing_was_left_out():
    answers, references = full(questions=20, models=("B",))
    assert notes(table(quick(answers, references))) == []


# --- Where the inconsistency comes from


def attributed(answers, references, **options):
    content = table(quick(answers, references, consistency=("em", "rs"), **options))
    return content, show(content)


def test_attribution_of_every_row_and_of_the_kinds_of_the_row_in_focus():
    answers, references = full(questions=120)
    content, shown = attributed(answers, references, focus="SFT")
    assert max(map(len, shown.splitlines())) <= 100
    flat = squeezed(shown)
    for row in content["rows"]:
        own, found = row["attribution"], row["attribution"]["metrics"]["rs"]
        for part, name in ((own["retriever"], "jaccard"), (found, "gen"), (found, "e2e")):
            assert scored(part[name], part["ci"][name]) in flat
        low, high = (round(100 * end) for end in found["ci"]["retriever_share"])
        assert f"{round(100 * found['retriever_share'])} % [{low}" in flat
        assert f"{high}]" in flat
    assert "SFT, by kind of rewording" in flat
    assert "B, by kind of rewording" not in flat
    found = content["rows"][1]["attribution"]["metrics"]["rs"]
    assert (
        f"SFT: with the original's passages held fixed RS rises from {number(found['e2e'], 2)} to "
        f"{number(found['gen'], 2)}; retrieval explains {percent(found, 'retriever_share')} of its "
        "inconsistency."
    ) in flat
    assert "~" not in flat


def test_attribution_with_noise_fits_a_hundred_columns():
    answers, references = full(questions=120, models=("a rather long model name [bold]", "B"))
    again = [a.model_copy(update={"repeat": 1, "answer": a.answer + " x"})
             for a in answers if a.contexts == "own"]  # fmt: skip
    _, shown = attributed([*answers, *again], references)
    assert max(map(len, shown.splitlines())) <= 100
    assert "of that" in shown
    assert "of it shows when the same is asked again." in squeezed(shown)
    assert "…" not in shown


def test_observed_attribution_says_so():
    answers, references = full(questions=40)
    own = [a for a in answers if a.contexts == "own"]
    content, shown = attributed(own, references)
    assert "~ observed: C_gen is of the pairs that kept their passages" in shown
    assert "rather too large" in squeezed(shown)
    for row in content["rows"]:
        share = row["attribution"]["metrics"]["rs"]["retriever_share"]
        assert f"~{round(100 * share)} %" in squeezed(shown)
    assert "where the passages stayed the same" in squeezed(shown)


def test_what_is_said_where_no_passages_are_known():
    content, shown = attributed(*data(questions=40))
    line = "where the inconsistency comes from is not known: the answers name no passages"
    assert line in notes(content)
    assert "C_ret" not in shown


def share_of(value, low=None, high=None, noise=(None,), **more):
    ends = {"retriever_share": None if low is None else [low, high], "noise_share": noise[1:]}
    shares = {"retriever_share": value, "noise_share": noise[0]}
    return {"e2e": 0.41, "gen": 0.63, **shares, **more, "ci": ends}


HELD = "Merged: with the original's passages held fixed RS rises from .41 to .63; "


@pytest.mark.parametrize(
    ("how", "found", "expected"),
    [
        (
            "fixed",
            share_of(0.3729, 0.25, 0.49),
            HELD + "retrieval explains 37 % [25-49] of its inconsistency.",
        ),
        (
            "fixed",
            share_of(0.37),
            HELD + "too few questions disagree to say what share of it is the retriever's.",
        ),
        (
            "fixed",
            share_of(-0.12, -0.3, -0.01, gen=0.34),
            "Merged: with the original's passages held fixed RS falls from .41 to .34; retrieval "
            "explains none of its inconsistency (-12 % [-30..-1]), rewordings agree more with "
            "passages of their own.",
        ),
        (
            "fixed",
            share_of(-0.002, -0.3, 0.1, gen=0.409, noise=(0.2, 0.1, 0.3)),
            "Merged: with the original's passages held fixed RS stays at .41; retrieval explains "
            "none of its inconsistency (0 % [-30..10]); 20 % [10-30] of it shows when the same is "
            "asked again.",
        ),
        (
            "observed",
            share_of(0.37, 0.25, 0.49),
            "Merged: RS is .63 where the passages stayed the same, .41 over all pairs; retrieval "
            "seems to explain 37 % [25-49] of its inconsistency.",
        ),
        (
            "fixed",
            share_of(None, e2e=1.0, gen=1.0),
            "Merged: every pair agrees in RS; there is no inconsistency to explain.",
        ),
    ],
)
def test_sentences(how, found, expected):
    assert sentence("Merged", {"how": how, "metrics": {"rs": found}}) == expected


def test_another_metric_stands_in_where_rs_was_not_scored():
    answers, references = full(questions=20)
    shown = show(table(quick(answers, references, consistency=("em",))))
    assert "Where the inconsistency comes from (EM)" in shown
    assert "with the original's passages held fixed EM" in squeezed(shown)


@pytest.fixture(scope="module")
def compared():
    answers, references = data(questions=30, models=("B", "SFT"))
    source = random.Random(0)
    answers = [a for a in answers if a.model == "B" or source.random() < 0.95]
    a, b = entrants({"0": answers})
    found = compare(b, a, references, choose((), ("em", "rs")), trained=["how_to_do"])
    return {"a": b.name, "b": a.name, "differences": found, "sentence": found["sentence"]}


def test_differences_are_all_shown_within_a_hundred_columns(compared):
    shown = show(compared, differences)
    own = compared["differences"]
    assert max(map(len, shown.splitlines())) <= 100
    assert "…" not in shown
    assert "SFT minus B, paired by question and variation" in shown
    for name in ("EM", "RS", "RS area", "semantic: RS", "unseen kinds: EM", "worst pair: RS"):
        assert any(line.strip().startswith(name) for line in shown.splitlines()), name
    for entry in (own["em"], own["by_type"]["semantic"]["rs"], own["worst"]["rs"]):
        assert number(entry["a"]) in shown
        assert number(abs(entry["difference"])) in shown
    assert squeezed(compared["sentence"]) in squeezed(shown)
    assert f"left out: {own['left_out']['answered_by_one']} answered by one" in squeezed(shown)


def test_numbers_are_short():
    assert [number(v) for v in (None, 0.0, 0.4123, 0.9996, 1.0)] == [
        "-", ".000", ".412", "1.00", "1.00"
    ]  # fmt: skip
    assert [number(v, 2) for v in (0.004, 0.36, 1.0)] == [".00", ".36", "1.0"]
