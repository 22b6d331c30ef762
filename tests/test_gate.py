import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import InputError
from accord.evaluate.gate import BASELINE, Clause, choose_model, decide, parse
from accord.evaluate.verdict import Outcome

fractions = st.floats(0, 1).map(abs)
keys = st.text("abzR09_+-éß", min_size=1, max_size=5)
paths = st.lists(keys, min_size=1, max_size=3).map(".".join)
metrics = paths.filter(lambda path: re.search("[^0-9.+-]", path))  # a number is no metric
names = st.one_of(st.text(min_size=1), st.sampled_from([BASELINE, "baseline", "and", "BY", "a'b`"]))
thresholds = st.builds(Clause, metrics, st.sampled_from([">=", ">", "<=", "<"]), fractions)
comparisons = st.builds(
    Clause, metrics, st.sampled_from(["not worse than", "better than"]), fractions, names
)
clauses = st.one_of(thresholds, comparisons)


def parsed(expression, **options):
    (clause,) = parse(expression, **options)
    return clause


def refusal(call, *args, **options):
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@given(st.lists(clauses, min_size=1, max_size=4))
def test_the_text_of_clauses_parses_to_the_same_clauses(given_clauses):
    assert parse(" and ".join(map(str, given_clauses))) == tuple(given_clauses)


@given(clauses, st.sampled_from(" \t\n"), st.sampled_from([str.upper, str.lower, str.title]))
def test_words_are_known_in_any_case_and_with_any_space(clause, space, case):
    versus = "" if clause.versus is None else "`" + clause.versus.replace("`", "``") + "`"
    by = f"{space}{case('by')}{space}" if versus else space
    relation = case(clause.relation).replace(" ", space)
    text = f"{space}{clause.metric}{space}{relation}{space}{versus}{by}{clause.amount:.400f}"
    assert parse(f"{text}{space}{case('and')}{space}{text}") == (clause, clause)


@given(st.text(max_size=40) | st.text("rs.by09 '\"`<>=%and+-", max_size=40))
def test_any_text_gives_clauses_or_one_line_that_says_what_is_wrong(text):
    try:
        assert parse(text)
    except InputError as error:
        assert str(error).startswith("--gate: ")
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.40", 0.4),
        (".4", 0.4),
        ("1", 1),
        ("1.", 1),
        ("40%", 0.4),
        ("40 %", 0.4),
        ("28.9%", 0.289),
        ("+.4", 0.4),
        ("-0", 0),
        ("0.00000000000000000001", 1e-20),
    ],
)
def test_numbers(text, amount):
    found = parsed(f"rs>={text}")
    assert found == Clause("rs", ">=", amount)
    assert math.copysign(1, found.amount) == 1


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rs>=.4", Clause("rs", ">=", 0.4)),
        ("by_type.how_to_do.rs < 0.4", Clause("by_type.how_to_do.rs", "<", 0.4)),
        ("by_length.1-10.rs > 0", Clause("by_length.1-10.rs", ">", 0)),
        ("rs better than SFT+TL", Clause("rs", "better than", 0, "SFT+TL")),
        ("rs better than my/m-1.5 by 1%", Clause("rs", "better than", 0.01, "my/m-1.5")),
        ("rs better than 'it''s' by .1", Clause("rs", "better than", 0.1, "it's")),
        ('rs better than "it\'s"', Clause("rs", "better than", 0, "it's")),
        ("rs not worse than Baseline by 0", Clause("rs", "not worse than", 0, BASELINE)),
        ("rs not worse than 'baseline' by 0", Clause("rs", "not worse than", 0, "baseline")),
        ("rs better than `a and b`", Clause("rs", "better than", 0, "a and b")),
    ],
)
def test_clauses(expression, expected):
    assert parsed(expression) == expected


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("", ["``", "a clause is wanted"]),
        (" and rs > .1", ["a clause is wanted beside `and`"]),
        ("rs > .1 and", ["a clause is wanted beside `and`"]),
        ("rs > .1 and and rs > .1", ["a clause is wanted beside `and`"]),
        ("rs == .4", ["in `rs == .4`", "`==` at character 4", "no interval can show equality"]),
        ("rs = .4", ["`=` at character 4", "no interval can show equality", ">= or <="]),
        ("rs => .4", ["`=>` at character 4", "one of >=, >, <=, <"]),
        ("rs≥.4", ["`≥` at character 3", "one of >=, >, <=, <"]),
        ("rs", ["in `rs`: found its end", "one of >=, >, <=, <"]),
        ("rs no worse than A by 1%", ["`no` at character 4", "`not worse than`"]),
        ("em > 0 and rs >", ["in `rs >`: found its end", "a number such as 0.40 or 40%"]),
        ("em > 0 and rs > x", ["in `rs > x`", "`x` at character 17", "a number"]),
        ("rs >= BASELINE", ["`BASELINE`", "models are compared by `not worse than`"]),
        ("rs >= 1e-3", ["`1e-3`", "a number"]),
        ("rs >= 40", ["`40` at character 7", "a score is a fraction from 0 to 1", "40%"]),
        ("rs >= 140%", ["`140`", "a score is a fraction from 0 to 1"]),
        ("rs > -.1", ["`-.1`", "a score is a fraction from 0 to 1"]),
        ("rs better than A by -1%", ["`-1`", "a margin is a fraction from 0 to 1"]),
        ("rs not worse than A", ["found its end", "`by` and the margin are wanted"]),
        ("rs not worse than A .1", ["`.1` at character 21", "`by` and the margin"]),
        ("rs not worse than by .1", ["`by`", "BASELINE or a model's name is wanted"]),
        ("rs better than", ["found its end", "BASELINE or a model's name is wanted"]),
        ("rs better than a&b", ["`a&b`", "other signs need quotes"]),
        ("rs better than ''", ["`''`", "a model's name is wanted"]),
        ("rs better than 'A by 1%", ["the quote ' at character 16", "not closed"]),
        ("rs > .1 or em > .1", ["`or` at character 9", "joined by `and`"]),
        (".4 <= rs", ["`.4` at character 1", "a metric comes first, as in `rs >= 0.40`"]),
        ("by_type..rs > 0", ["`by_type..rs`", "a metric comes first"]),
        ("'rs' > 0", ["`'rs'`", "a metric comes first"]),
        (">= .4", ["`>=` at character 1", "a metric comes first"]),
        ("rs\n>=\nx", ["in `rs >= x`", "`x` at character 7"]),
    ],
)
def test_what_is_wrong_with_an_expression_is_said(expression, parts):
    message = refusal(parse, expression)
    assert message.startswith("--gate: ")
    for part in parts:
        assert part in message


def test_metrics_that_are_known_are_checked_at_once():
    assert parsed("by_type.x.rs > 0", metrics=["rs", "em"]).metric == "by_type.x.rs"
    message = refusal(parse, "em > 0 and by_type.x.rss > 0", metrics=["rs", "em"])
    assert "`by_type.x.rss` at character 12; no metric `rss`; did you mean `rs`?" in message


def row(**changed):
    return {
        "rouge_l": 0.5,
        "em": 0.2,
        "rs": 0.412,
        "bs": None,
        "containment": None,
        "ci": {"rouge_l": [0.45, 0.55], "em": [0.15, 0.25], "rs": [0.371, 0.455], "bs": None},
        "n": 390,
        "pairs": 1579,
        "questions": 400,
        "group": {"rs": 0.4, "ci": {"rs": [0.35, 0.45]}, "n": 395},
        "by_type": {
            "how_to_do": {"rs": 0.6, "ci": {"rs": [0.5, 0.7]}, "n": 120, "pairs": 121},
            "i_we": {"rs": 0.6, "ci": {"rs": None}, "n": 1, "pairs": 1},
        },
        "rs_curve": {"T": [0.0], "rs": [1.0]},
        "left_out": {"questions": 0, "pairs": 0},
    } | changed


SCORES = {"models": {"SFT": row(rouge_l=None), "Merged": row()}}


def unknown(metric, name):
    return None


def judged(expression, scores=SCORES, difference=unknown, model="Merged"):
    (outcome,) = decide(parse(expression), scores, model, difference).outcomes
    return outcome


OPERATORS = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}


@given(st.lists(fractions, min_size=3, max_size=3), fractions, st.sampled_from(list(OPERATORS)))
def test_a_clause_passes_if_all_of_the_interval_does(points, threshold, relation):
    low, value, high = sorted(points)
    scores = {"models": {"M": {"rs": value, "ci": {"rs": [low, high]}, "n": 9}}}
    clause = Clause("rs", relation, threshold)
    verdict = decide([clause], scores, "M", unknown)
    (outcome,) = verdict.outcomes
    within = np.array([low, *np.linspace(low, high, 11).clip(low, high), value, high])
    assert outcome.passed == bool(OPERATORS[relation](within, threshold).all()) == verdict.passed
    assert outcome.misled == (bool(OPERATORS[relation](value, threshold)) and not outcome.passed)
    assert (outcome.value, outcome.interval) == (value, (low, high))
    assert outcome.bound in (low, high)


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    fractions,
    st.sampled_from(["not worse than", "better than"]),
)
def test_a_comparison_passes_if_all_of_the_difference_does(points, margin, relation):
    low, value, high = sorted(points)
    asked = []

    def difference(metric, name):
        asked.append((metric, name))
        return {"difference": value, "ci": [low, high], "n": 9}

    clause = Clause("by_type.how_to_do.rs", relation, margin, "SFT")
    (outcome,) = decide([clause], SCORES, "Merged", difference).outcomes
    within = np.linspace(low, high, 11).clip(low, high)
    holds = within >= -margin if relation == "not worse than" else within > margin
    assert outcome.passed == bool(holds.all())
    assert asked == [("by_type.how_to_do.rs", "SFT")]


@pytest.mark.parametrize(
    ("expression", "passed"),
    [
        ("rs >= .371", True),
        ("rs > .371", False),
        ("rs >= .372", False),
        ("rs <= .455", True),
        ("rs < .455", False),
        ("rs <= .454", False),
        ("group.rs >= .35", True),
        ("by_type.how_to_do.rs > 49%", True),
        ("by_type.i_we.rs > 0", False),
    ],
)
def test_the_end_of_the_interval_decides(expression, passed):
    assert judged(expression).passed is passed


@pytest.mark.parametrize(
    ("expression", "passed"),
    [
        ("rs not worse than BASELINE by .01", True),
        ("rs not worse than BASELINE by .009", False),
        ("rs better than BASELINE", False),
        ("rs better than SFT by .03", False),
        ("rs better than SFT by .019", True),
    ],
)
def test_the_lower_end_of_the_difference_decides(expression, passed):
    entries = {BASELINE: (0.0, [-0.01, 0.02]), "SFT": (0.03, [0.02, 0.04])}

    def difference(metric, name):
        value, ends = entries[name]
        return {"difference": value, "ci": ends, "n": 400}

    assert judged(expression, difference=difference).passed is passed


def test_a_gate_passes_only_if_every_clause_does():
    found = decide(parse("rs > .1 and rs > .4 and em > .1"), SCORES, "Merged", unknown)
    assert [outcome.passed for outcome in found.outcomes] == [True, False, True]
    assert not found.passed
    assert found.failures == (found.outcomes[1],)
    assert found.sizes == {"questions": 400, "n": 390, "pairs": 1579}
    assert decide(parse("rs > .1 and em > .1"), SCORES, "Merged", unknown).passed


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        (
            "rs >= .35",
            "rs is .412 [.371, .455] on 1,579 pairs of 400 questions: the lower end .371 is at "
            "least .350",
        ),
        (
            "rs >= .6",
            "rs is .412 [.371, .455] on 1,579 pairs of 400 questions: the lower end .371 is below "
            ".600",
        ),
        (
            "rs >= .40",
            "rs is .412 [.371, .455] on 1,579 pairs of 400 questions: the lower end .371 is below "
            ".400; the point value alone would pass, but the interval does not show it: about 12 "
            "times as many questions (some 4,800) would, if the value stays",
        ),
        (
            "rs < .42",
            "rs is .412 [.371, .455] on 1,579 pairs of 400 questions: the upper end .455 is not "
            "below .420; the point value alone would pass, but the interval does not show it: "
            "about 29 times as many questions (some 11,600) would, if the value stays",
        ),
        (
            "rs >= .412",
            "rs is .412 [.371, .455] on 1,579 pairs of 400 questions: the lower end .371 is below "
            ".412; the point value alone would pass, but the interval does not show it: it stands "
            "at the limit itself, where more questions do not help",
        ),
        (
            "rs >= .4119",
            "rs is .412 [.371, .455] on 1,579 pairs of 400 questions: the lower end .371 is below "
            ".412; the point value alone would pass, but the interval does not show it: more than "
            "100 times as many questions would be needed",
        ),
        (
            "rs >= .3710001",
            "rs is .412 [.371, .455] on 1,579 pairs of 400 questions: the lower end .3710000 is "
            "below .3710001; the point value alone would pass, but the interval does not show it: "
            "about 1.1 times as many questions (some 440) would, if the value stays",
        ),
        (
            "rouge_l <= .6",
            "rouge_l is .500 [.450, .550] on 390 questions: the upper end .550 is at most .600",
        ),
        (
            "group.rs > .3",
            "group.rs is .400 [.350, .450] on 395 questions: the lower end .350 is above .300",
        ),
        (
            "by_type.how_to_do.rs > .5",
            "by_type.how_to_do.rs is .600 [.500, .700] on 121 pairs of 120 questions: the lower "
            "end .500 is not above .500; the point value alone would pass, but the interval does "
            "not show it: about 1.1 times as many questions (some 132) would, if the value stays",
        ),
        (
            "by_type.i_we.rs > .5",
            "by_type.i_we.rs is .600 on 1 pair of 1 question without an interval, which needs at "
            "least two questions with a score: undecided, which counts as failed; the point value "
            "alone would pass",
        ),
        (
            "by_type.i_we.rs > .7",
            "by_type.i_we.rs is .600 on 1 pair of 1 question without an interval, which needs at "
            "least two questions with a score: undecided, which counts as failed",
        ),
    ],
)
def test_sentences(expression, sentence):
    assert judged(expression).sentence == sentence


def test_the_sentence_of_a_difference_has_signs():
    entry = {"difference": 0.004, "ci": [-0.013, 0.021], "n": 400}
    found = judged("rs not worse than SFT by .01", difference=lambda metric, name: entry)
    assert found.sentence.startswith(
        "rs minus that of `SFT` is +.004 [-.013, +.021] on 400 questions: the lower end -.013 is "
        "below -.010; the point value alone would pass"
    )
    entry["ci"] = None
    found = judged("rs better than SFT", difference=lambda metric, name: entry)
    assert (found.result, found.passed) == ("undecided", False)


@given(st.floats(0, 1), st.floats(1e-4, 0.5), st.floats(1.001, 20), st.integers(2, 10**6))
def test_with_that_many_questions_the_interval_would_pass(limit, gap, wider, n):
    value, reach = limit + gap, gap * wider  # the interval reaches further than the gap
    outcome = Outcome("", "rs", value, (value - reach, value + reach), ">=", limit, n)
    assert outcome.misled
    told = re.search(r"about ([\d.]+) times as many questions \(some ([\d,]+)\)", outcome.sentence)
    if told is None:
        assert "more than 100 times" in outcome.sentence
        assert wider > 9.999
        return
    times, total = float(told[1]), int(told[2].replace(",", ""))
    assert value - reach / math.sqrt(times) >= limit - 1e-9
    assert times <= max(1.1, wider**2 + (0.101 if times < 10 else 1.001))  # rounded up, not more
    assert total == pytest.approx(times * n, abs=0.5)


@pytest.mark.parametrize("ends", [None, [math.nan, 0.5], [0.4, math.inf]])
def test_without_an_interval_a_clause_is_undecided_and_fails(ends):
    scores = {"models": {"M": {"rs": 0.9, "ci": {"rs": ends}, "n": 1}}}
    found = judged("rs >= .1", scores, model="M")
    assert (found.result, found.passed, found.bound) == ("undecided", False, None)
    assert not decide(parse("rs <= 1"), scores, "M", unknown).passed


def test_scores_without_intervals_are_undecided():
    assert judged("rs > .1", {"models": {"M": {"rs": 0.9}}}, model="M").sentence == (
        "rs is .900 without an interval, which needs at least two questions with a score: "
        "undecided, which counts as failed; the point value alone would pass"
    )


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("rss > .1", ["`rss > 0.1`", "`Merged` have no `rss`", "did you mean `rs`?"]),
        ("accuracy > .1", ["no `accuracy`", "one of `bs`, `containment`, `em`, `rouge_l`, `rs`"]),
        ("by_type.how_to.rs > .1", ["did you mean `by_type.how_to_do.rs`?"]),
        ("by_type.i_we > .1", ["no `by_type.i_we`", "`by_type.i_we.rs`"]),
        ("rs.group > .1", ["no `rs.group`", "`group.rs`"]),
        ("pairs > .1", ["no `pairs`"]),
        ("ci.rs > .1", ["no `ci.rs`"]),
        ("ci.bs > .1", ["no `ci.bs`"]),
        ("rs_curve.rs > .1", ["no `rs_curve.rs`"]),
        ("bs > .1", ["`bs` of `Merged` is unscored", "needs an encoder", "`--encoder`"]),
        ("containment > .1", ["is unscored", "pairs of an original and a variation"]),
        ("rs better than SFTT", ["`rs better than SFTT by 0`", "did you mean `SFT`?"]),
        ("rs better than Merged", ["compares `Merged` with itself"]),
        ("rs better than SFT", ["not compared with `SFT`"]),
        ("rs better than BASELINE", ["no BASELINE with this score is given", "quote it"]),
        ("rs better than 'a\nb'", ["no model `a b`"]),
    ],
)
def test_what_the_scores_lack_is_said(expression, parts):
    message = refusal(judged, expression)
    for part in parts:
        assert part in message


def test_metrics_of_accuracy_are_those_that_the_scores_name():
    named = {"metrics": {"accuracy": {"containment": {}}}}
    scores = SCORES | {"signatures": named}
    assert "needs reference answers" in refusal(judged, "containment > .1", scores)
    assert "needs reference answers" in refusal(judged, "rouge_l > 0", model="SFT")
    assert (
        judged("em > .1", scores | {"signatures": {"metrics": {"accuracy": ["em"]}}}).pairs is None
    )
    assert judged("em > .1", scores).pairs == 1579
    named["metrics"]["accuracy"] = ["rs"]  # of the row, not of its parts
    assert judged("rs > .1", scores).pairs is None
    assert judged("by_type.how_to_do.rs > .1", scores).pairs == 121


def test_nan_is_unscored():
    scores = {"models": {"M": {"rs": math.nan, "ci": {"rs": [0.1, 0.2]}}}}
    assert "is unscored" in refusal(judged, "rs > 0", scores, model="M")


def test_a_model_that_is_not_there_is_refused():
    message = refusal(judged, "rs > .1", model="Merge")
    assert message == "--gate-model: no model `Merge` in the scores; did you mean `Merged`?"


def test_choose_model():
    assert choose_model(["SFT", "Merged"], None) == "Merged"
    assert choose_model(["SFT", "Merged"], "SFT") == "SFT"
    assert choose_model(["SFT"], None) == "SFT"
    assert "did you mean `SFT`?" in refusal(choose_model, ["SFT", "Merged"], "SFTT")
    message = refusal(choose_model, ["B", "SFT"], None)
    assert "`B`, `SFT`" in message
    assert "--gate-model" in message
    assert "--gate-model" in refusal(choose_model, [], None)
