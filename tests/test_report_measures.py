"""The page repeats the table's numbers, says on how many questions each rests, and adds none."""

import copy
import random
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.config import Config
from accord.evaluate.stage import evaluate
from accord.evaluate.table import table
from accord.records import Answer, LayerWeights, Wording, write_json, write_records
from accord.report import curve
from accord.report.differences import differences_view
from accord.report.grid import Cell, sized, span
from accord.report.page import render
from accord.report.stage import AskedWording, Example, ReportContent
from accord.runs import Run
from accord.story import page_content

MODELS = {"B": 0.3, "ALL": 0.6, "Merged": 0.95}
KINDS = ("polite", "terse")
MINUS = "\N{MINUS SIGN}"
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>\'"&{{ 7 * 7 }}'
PLACES = [
    ("rows", 0, "name"),
    ("rows", 0, "by_type"),
    ("rows", 0, "by_length"),
    ("rows", 0, "by_retrieval"),
    ("rows", 0, "group"),
    ("rows", 0, "worst"),
    ("rows", 0, "unseen"),
    ("rows", 0, "noise_floor"),
    ("rows", 0, "rs_curve"),
    ("rows", 0, "guard"),
    ("rows", 0, "unscored"),
    ("rows", 0, "left_out"),
    ("rows", 0, "seeds"),
    ("rows", 2, "worst_questions"),
    ("rows", 0, "ci"),
    ("rows", 0, "attribution"),
    ("rows", 0, "attribution", "how"),
    ("rows", 0, "attribution", "note"),
    ("rows", 0, "attribution", "sentence"),
    ("rows", 0, "attribution", "left_out"),
    ("rows", 0, "attribution", "retriever"),
    ("rows", 0, "attribution", "retriever", "jaccard"),
    ("rows", 0, "attribution", "retriever", "ci"),
    ("rows", 0, "attribution", "metrics"),
    ("rows", 0, "attribution", "metrics", "rs"),
    ("rows", 0, "attribution", "metrics", "rs", "gen"),
    ("rows", 0, "attribution", "metrics", "rs", "ci"),
    ("rows", 0, "attribution", "by_type"),
    ("rows", 0, "attribution", "by_type", "polite"),
    ("rows",),
    ("comparisons",),
    ("comparisons", "focus"),
    ("comparisons", "against"),
    ("comparisons", "against", "B"),
    ("comparisons", "against", "B", "rs"),
    ("comparisons", "against", "B", "rs", "ci"),
    ("detectable",),
    ("pareto",),
    ("warnings",),
    ("signatures",),
    ("signatures", "trained"),
    ("signatures", "set_aside"),
    ("signatures", "T"),
]


def answers(seed, questions=24):
    """Three models that repeat themselves more or less, with passages and a repeated original."""
    draw = random.Random(seed)
    words = [f"word{i}" for i in range(60)]
    for model, steady in MODELS.items():
        for q in range(questions):
            said = random.Random(q).sample(words, 8 + q)
            for kind in (None, *KINDS, "again"):
                kept = kind is None or draw.random() < steady
                text = " ".join(said if kept else draw.sample(words, 6))
                again = kind == "again"
                yield Answer(
                    model=model,
                    id=f"q{q}" if kind is None or again else f"q{q}.{kind}",
                    original_id=None if kind is None or again else f"q{q}",
                    type=None if again else kind,
                    query=f"{kind} question {q}" if kind in KINDS else f"question {q}",
                    answer=text,
                    passages=("p1", "p2") if draw.random() < 0.7 else ("p3",),
                    repeat=int(again),
                )


def scored(*seeds, **options):
    files = {str(seed): list(answers(seed)) for seed in seeds}
    names = {a.original_id or a.id for a in files[str(seeds[0])]}
    references = {q: " ".join(f"word{i}" for i in range(9)) for q in sorted(names)}
    chosen = {"consistency": ("em", "rs"), "resamples": 2000, "trained": ["polite"], **options}
    return table(evaluate(files, references, **chosen))


@pytest.fixture(scope="module")
def whole():
    return scored(1, 2)


@pytest.fixture(scope="module")
def page(whole):
    return render(ReportContent(table=whole))


class Tables(HTMLParser):
    """The tables of a page by the label of their box: rows of cells, each a list of its lines."""

    def __init__(self, page):
        super().__init__()
        self.found, self._label, self._cell = {}, None, None
        self.strong = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "div":
            self._label = dict(attrs).get("aria-label", self._label)
        elif tag == "table":
            self.found[self._label] = []
        elif tag == "tr":
            self.found[self._label].append([])
        elif tag in {"th", "td"}:
            self._cell = []
            self.found[self._label][-1].append(self._cell)
        elif tag == "strong" and self._cell is not None:
            self.strong.add(id(self._cell))

    def handle_endtag(self, tag):
        if tag in {"th", "td"}:
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None and data.strip():
            self._cell.append(data.strip())

    def cells(self, label):
        """Heading -> row -> lines of the cell."""
        head, *rows = self.found[label]
        return {
            " ".join(h[:1]): {row[0][0]: row[i] for row in rows}
            for i, h in enumerate(head)
            if i > 0
        }


def changed(whole, path, value):
    """A copy of the table with something else in one place; None: nothing there."""
    new = copy.deepcopy(whole)
    part = new
    for step in path[:-1]:
        part = part[step]
    if value is None:
        part.pop(path[-1], None)
    else:
        part[path[-1]] = value
    return new


def rate(part):
    low, high = part["ci"]["rs"]
    return [f"{part['rs']:.3f}", f"{low:.3f}\N{EN DASH}{high:.3f}"]


def test_the_noise_floor_stands_below_each_number_of_consistency_alone(whole, page):
    cells = Tables(page).cells("Table of results")
    for row in whole["rows"]:
        for metric, heading in (("em", "EM"), ("rs", "RS"), ("rs_area", "RS area")):
            assert f"floor {row['noise_floor'][metric]:.3f}" in cells[heading][row["name"]]
        for heading in ("ROUGE-L", "BLEU", "BS", "questions", "pairs"):
            assert not any("floor" in line for line in cells[heading][row["name"]])
        assert cells["questions"][row["name"]] == [f"{row['n']}"]
        assert cells["pairs"][row["name"]] == [f"{row['pairs']}"]


def test_without_repeats_no_floor_is_spoken_of(whole):
    bare = {**whole, "rows": [{**r, "noise_floor": {}} for r in whole["rows"]]}
    page = render(ReportContent(table=bare))
    assert "Floor:" not in page
    assert not re.search(r"<small>floor", page)


def test_rs_of_each_kind_of_whole_groups_and_of_kinds_never_trained_on(whole, page):
    cells = Tables(page).cells("RS by kind of rewording")
    titles = {
        "polite": ("by_type", "polite"),
        "terse (never trained on)": ("by_type", "terse"),
        "kinds never trained on": ("unseen",),
        "all wordings": ("group",),
        "worst pair": ("worst",),
    }
    assert set(cells) == set(titles)
    for title, path in titles.items():
        for row in whole["rows"]:
            part = row[path[0]] if len(path) == 1 else row[path[0]][path[1]]
            assert cells[title][row["name"]] == rate(part)
    heads = {head[0]: head[1:] for head in Tables(page).found["RS by kind of rewording"][0]}
    assert heads["polite"] == ["24 questions", "24 pairs"]
    assert heads["worst pair"] == ["24 questions"]


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ("RS by length of the answer", "by_length"),
        ("RS by what became of the passages", "by_retrieval"),
    ],
)
def test_parts_that_depend_on_the_answers_say_how_many_pairs_each_has(whole, page, label, part):
    found = Tables(page)
    heads = {head[0]: ", ".join(head[1:]) for head in found.found[label][0][1:]}
    shown = {
        (name, cell[0], heads[title] or cell[-1])
        for title, own in found.cells(label).items()
        for name, cell in own.items()
        if cell != ["-"]
    }
    assert shown == {
        (
            row["name"],
            f"{own['rs']:.3f}",
            f"{span([own['n']], 'question')}, {span([own['pairs']], 'pair')}",
        )
        for row in whole["rows"]
        for own in row[part].values()
    }


def test_passages_that_nobody_recorded_make_no_table(whole):
    rows = [{**r, "by_retrieval": {"unknown": r["by_retrieval"]["same"]}} for r in whole["rows"]]
    assert "what became of the passages" not in render(ReportContent(table={"rows": rows}))


def test_lengths_come_in_their_order_whatever_row_has_them():
    part = {"rs": 0.5, "n": 3, "pairs": 4}
    rows = [
        {"name": "a", "by_length": {"11-30": part, "101-": part}},
        {"name": "b", "by_length": {"1-10": part, "31-100": part}},
    ]
    cells = Tables(render(ReportContent(table={"rows": rows}))).cells("RS by length of the answer")
    lengths = ["1 to 10 words", "11 to 30 words", "31 to 100 words", "101 words and more"]
    assert list(cells) == lengths
    assert cells["1 to 10 words"] == {"a": ["-"], "b": ["0.500"]}


def test_differences_are_printed_and_marked_as_claimed_where_they_are(whole, page):
    found = Tables(page)
    cells = found.cells("Differences from Merged")
    metrics = {"ROUGE-L": "rouge_l", "BLEU": "bleu", "EM": "em", "RS": "rs"}
    claims = []
    for name, other in whole["comparisons"]["against"].items():
        for heading, metric in metrics.items():
            entry, cell = other[metric], cells[heading][name]
            size = f"{abs(entry['difference']):.3f}"
            sign = "" if size == "0.000" else "+" if entry["difference"] > 0 else MINUS
            assert cell[0] == sign + size
            assert (id(cell) in found.strong) == (entry["claim"] is not None)
            word = {"better": "claimed: higher", "worse": "claimed: lower", None: None}
            assert (word[entry["claim"]] in cell) == (entry["claim"] is not None)
            if entry["detectable"] is not None:
                assert f"seen from {entry['detectable']:.3f}" in cell
            claims.append(entry["claim"])
    assert {None, "better"} <= set(claims)  # else the marks were not put to the test
    assert "RS (kinds never trained on)" in cells
    tests = {other["tests"] for other in whole["comparisons"]["against"].values()}
    assert f"for all {tests.pop()} tests" in page


def test_every_difference_stands_there_with_its_p_values(whole, page):
    other = whole["comparisons"]["against"]["B"]
    cells = Tables(page).cells("Every difference from B")
    for title, entry in (
        ("RS", other["rs"]),
        ("RS (terse)", other["by_type"]["terse"]["rs"]),
        ("EM (kinds never trained on)", other["unseen"]["em"]),
    ):
        p = entry["p_holm"]
        assert cells["p after Holm"][title] == [f"{p:.3f}" if p >= 0.001 else "<0.001"]
        assert cells["Merged"][title] == [f"{entry['a']:.3f}"]
        assert cells["B"][title] == [f"{entry['b']:.3f}"]
        assert cells["pairs"][title] == [f"{entry['pairs']}"]
    assert cells["p"]["RS (worst pair)"] == ["-"]


def test_what_is_claimed_is_said_in_words():
    def entry(claim):
        return {"difference": 0.1, "claim": claim, "n": 9, "pairs": 9}

    own = {"em": entry(None), "rs": entry("better"), "rouge_l": entry("worse"), "tests": 3}
    made = {"focus": "M", "against": {"B": own, "C": {"rs": entry(None)}}}
    view = differences_view({"comparisons": made})
    assert view["sentences"] == [
        ("B", "higher in RS; lower in ROUGE-L; no claim in EM."),
        ("C", "nothing can be claimed."),
    ]


def test_where_differences_are_tested_the_table_marks_no_best(whole):
    clear = copy.deepcopy(whole)
    for row in clear["rows"]:
        row["ci"]["rs"] = [row["rs"], row["rs"]]
    marked = Tables(render(ReportContent(table={**clear, "comparisons": None})))
    plain = Tables(render(ReportContent(table=clear)))
    assert id(marked.cells("Table of results")["RS"]["Merged"]) in marked.strong
    best = {id(cell) for row in plain.found["Table of results"] for cell in row}
    assert not best & plain.strong


def test_each_seed_alone(whole, page):
    cells = Tables(page).cells("Numbers of each seed")
    for row in whole["rows"]:
        for label, own in row["seeds"].items():
            assert cells["RS"][f"{row['name']}, seed {label}"] == [f"{own['rs']:.3f}"]
    assert "Numbers of each seed" not in render(ReportContent(table=scored(1)))


def test_the_front_is_named_ringed_and_spoken(whole, page):
    front = whole["pareto"]["front"]
    assert front
    named = re.search(r"no other model beats in both numbers: (.*?)\.", page).group(1)
    assert sorted(re.findall(r"<bdi>(.*?)</bdi>", named)) == sorted(front)
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    planes = [picture for picture in pictures if "Accuracy (ROUGE-L)" in picture]
    assert len(planes) == 2  # wide and narrow
    for picture in planes:
        assert picture.count('class="ring"') == len(front)
        assert ET.fromstring(picture)[1].text.count("No other beats it in both.") == len(front)
    alone = render(ReportContent(table={"rows": whole["rows"][:1]}))
    assert 'class="ring"' not in alone
    assert 'class="front"' not in alone


def test_the_curve_marks_the_chosen_threshold_and_names_its_lines(whole):
    curves = curve.curves_of(whole["rows"])
    picture = ET.fromstring(curve.chart(curves, {}, 0.7, "Merged"))
    lines = [p for p in picture.iter("path") if "series" in p.get("class")]
    assert len(lines) == len(MODELS)
    assert len({p.get("stroke-dasharray") for p in lines}) == len(lines)
    assert sum("focus" in p.get("class") for p in lines) == 1
    marked = next(one for one in picture.iter("line") if one.get("class") == "axis")
    at = whole["rows"][0]["rs_curve"]["T"].index(0.7)
    points = re.findall(r"([\d.]+) [\d.]+", lines[0].get("d"))
    assert float(marked.get("x1")) == pytest.approx(float(points[at]), abs=0.06)
    desc = picture[1].text
    for row in whole["rows"]:
        assert f"{row['rs_curve']['rs'][at]:.3f} at T 0.7" in desc
    written = {t.text for t in picture.iter("text")}
    assert {*MODELS, "T = 0.7"} <= written


def test_a_threshold_off_the_grid_or_the_axis_does_no_harm(whole):
    curves = curve.curves_of(whole["rows"])
    for T in (None, 0.631, 2.0):
        assert "Merged" in curve.chart(curves, {}, T)
        assert curve.leaders(curves, T) == ""
    assert curve.chart([], {}, 0.7) == ""


def test_more_lines_than_can_be_told_apart_are_named_instead():
    given = {"T": [0.0, 0.5], "rs": [1.0, 0.5]}
    rows = [{"name": f"m{i}", "rs": 0.5, "rs_curve": given} for i in range(12)]
    made = {"focus": "m11", "against": {"m0": {"rs": {"difference": 0.1}}}}
    page = render(ReportContent(table={"rows": rows, "comparisons": made}))
    picture = next(s for s in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "threshold" in s)
    assert picture.count('class="series') == curve.MOST
    assert picture.count("series other focus") == 1
    left = re.search(r"Not drawn, for legibility: (.*?)\.<", page.replace("\n", "")).group(1)
    assert re.findall("m[0-9]+", left) == ["m7", "m8", "m9", "m10"]


@given(
    st.lists(st.floats(0, 240), min_size=1, max_size=8),
    st.sampled_from([14, 16, 20]),
)
def test_names_at_the_ends_of_lines_keep_apart_and_inside(wanted, gap):
    places = curve.apart(wanted, gap, 0, 240)
    ordered = sorted(places)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(ordered))
    assert ordered[0] >= -1e-9
    assert ordered[-1] <= 240 + 1e-9
    by_wish = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert [places[i] for i in by_wish] == ordered
    if all(b - a >= gap for a, b in pairwise(sorted(wanted))):
        assert places == pytest.approx(wanted)


def test_who_leads_and_how_far_it_depends_on_the_threshold():
    lines = [
        curve.Curve("a", ((0.0, 1.0), (0.5, 0.4), (0.9, 0.1))),
        curve.Curve("b", ((0.0, 1.0), (0.5, 0.3), (0.9, 0.2))),
    ]
    assert curve.leaders(lines, 0.5) == "a is highest at T = 0.5, and at 2 of 3 thresholds."
    assert curve.leaders(lines, 0.9) == "b is highest at T = 0.9, and at 2 of 3 thresholds."
    assert curve.leaders(lines[:1], 0.5) == ""


@given(st.lists(st.sampled_from(["", "2 pairs", "3 pairs"]), min_size=1, max_size=6))
def test_a_size_stands_in_the_heading_only_where_all_share_it(sizes):
    cells = [(Cell("0.5"), size) for size in sizes]
    grid = sized([("RS", cells)], [str(i) for i in range(len(sizes))])
    [(_, common)] = grid.headings
    known = {size for size in sizes if size}
    assert common == (known.pop() if len(known) == 1 else "")
    if not common:
        assert [row[0].small for _, row in grid.rows] == [(s,) if s else () for s in sizes]


def test_spans():
    assert span([], "pair") == ""
    assert span([1, 1], "pair") == "1 pair"
    assert span([2, 5, 3], "pair") == "2 to 5 pairs"


def test_what_is_left_out_unscored_or_refused_is_counted_by_name(whole):
    rows = copy.deepcopy(whole["rows"])
    rows[0] |= {"unscored": {"rs": 7}, "empty_answers": 3, "guard": {"numbers": 5, "refusal": 2}}
    rows[1] |= {"left_out": {"questions": 0, "pairs": 11}, "guard": {}}
    found = Tables(render(ReportContent(table={**whole, "rows": rows})))
    lost = found.cells("What is left out")
    assert lost == {
        "blank answers": {"B": ["3"], "ALL": ["0"], "Merged": ["0"]},
        "pairs not shared by all rows": {"B": ["0"], "ALL": ["11"], "Merged": ["0"]},
        "RS unscored": {"B": ["7"], "ALL": ["0"], "Merged": ["0"]},
    }
    guard = found.cells("Pairs refused by reason")
    assert guard["different numbers"]["B"] == ["5"]
    assert guard["refused"] == {"B": ["7"], "ALL": ["0"], "Merged": ["0"]}
    assert guard["of pairs"]["B"] == [f"{rows[0]['pairs'] * 2}"]  # two seeds


def test_that_nothing_is_left_out_is_said_only_by_tables_that_know(whole, page):
    sentence = "No question or pair was left out"
    assert sentence in page
    assert "72 repeated answers" not in page
    assert "144 repeated answers: for the noise floor only." in page
    older = [{k: v for k, v in row.items() if k != "unscored"} for row in whole["rows"]]
    assert sentence not in render(ReportContent(table={"rows": older}))


def test_warnings_stand_at_the_table():
    few = scored(1, 1)  # the second seed repeats the first
    page = render(ReportContent(table={**few, "warnings": [*few["warnings"], EVIL]}))
    table_at, differences_at = page.index('id="table"'), page.index('id="differences"')
    assert table_at < page.index("&lt;script&gt;") < differences_at


def test_smallest_differences_name_the_row_in_focus(whole, page):
    assert "Smallest difference between <bdi>Merged</bdi> and any other row" in page
    assert f"RS {whole['detectable']['rs']:.3f}" in page


def test_the_worst_questions_of_the_row_in_focus_are_shown_once(whole, page):
    worst = next(r for r in whole["rows"] if r["name"] == "Merged")["worst_questions"]
    assert [f"<bdi>{q['id']}</bdi>" in page for q in worst] == [True] * len(worst)
    assert "<bdi>Merged</bdi> answers least consistently" in page
    assert "mean overlap (ROUGE-L)" in page
    wordings = [
        AskedWording("own", "Q?", None, [], {"B": "a"}),
        AskedWording("own.1", "q", "terse"),
    ]
    own = render(ReportContent(table=whole, examples=[Example("own", wordings)]))
    assert "<bdi>own</bdi>" in own
    assert "answers least consistently" not in own
    assert not any(f"<bdi>{q['id']}</bdi>" in own for q in worst)


def test_older_tables_still_make_a_page():
    rows = [{"name": "B", "rs": 0.5, "rouge_l": 0.4, "n": 9, "pairs": 9}]
    rows[0]["by_type"] = {"polite": {"em": 0.1, "rs": 0.25, "bs": 0.2, "pairs": 9}}
    page = render(ReportContent(table={"rows": rows}))
    assert Tables(page).cells("RS by kind of rewording") == {"polite": {"B": ["0.250"]}}
    assert "Nothing was compared" in page
    assert "Not drawn: the scores have no RS by threshold." in page


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rs", "ci", "n", "pairs", "T", "difference", "answers", "id", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(place=st.sampled_from(PLACES), value=junk)
def test_anything_in_any_place_still_makes_a_page(whole, place, value):
    page = render(ReportContent(table=changed(whole, place, value)))
    assert page.endswith("</html>")
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(picture)


def test_names_from_outside_are_shown_as_text(whole):
    def spoil(value):
        if isinstance(value, dict):
            return {spoil(k): spoil(v) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v) for v in value]
        return EVIL if value in ("Merged", "terse", "2") else value  # a row, a kind, a seed

    page = render(ReportContent(table=spoil(whole)))
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 30
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(picture)


def test_every_label_and_heading_is_there_once_for_readers_of_the_page(page):
    idents = re.findall(r'\bid="([^"]+)"', page)
    assert len(idents) == len(set(idents))
    linked = re.findall(r'href="#([^"]+)"', page)
    assert set(linked) <= set(idents)
    boxes = re.findall(r'<div class="scroll"([^>]*)>\s*<table', page)
    assert boxes
    assert all('tabindex="0"' in box and "aria-label=" in box for box in boxes)


def test_a_run_shows_the_answers_that_were_scored(tmp_path):
    run = Run(tmp_path)
    said = {"own": ("own", 0), "gold": ("gold", 0), "again": ("own", 1)}
    made = [
        Answer(model="B", id="q", query="Q?", answer=text, contexts=contexts, repeat=repeat)
        for text, (contexts, repeat) in said.items()
    ]
    asked = Wording(id="q", original_id="q", type=None, query="Q?", split="test")
    write_records(run.stage("vary") / "wordings.jsonl", [asked])
    write_records(run.stage("vary") / "variations.skipped.jsonl", [])
    write_records(run.stage("generate") / "answers.jsonl", made)
    for name in ("table", "scores"):
        write_json(run.stage("evaluate") / f"{name}.json", {})
    weights = LayerWeights(models=(), layers=0, weights=())
    write_json(run.stage("weigh") / "layer_weights.json", weights.model_dump(mode="json"))
    (tmp_path / "events.jsonl").touch()
    config = Config.model_validate({"base": "b", "data": {"qa": "qa.jsonl", "passages": "p.jsonl"}})
    [example] = page_content(config, run).examples
    assert example.wordings[0].answers == {"B": "own"}
