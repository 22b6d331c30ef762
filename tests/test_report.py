"""The page shows what it is given, says what is missing, and never runs or loads anything."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from accord.records import LayerWeights
from accord.report import charts, layers
from accord.report.disagreements import LONGEST
from accord.report.page import render
from accord.report.plane import Box, pareto, place, plane, points_of
from accord.report.roles import roles_of
from accord.report.stage import AskedWording, Example, ReportContent, report
from accord.report.svg import clean, mark, shorten, tick_label, ticks, width_of

NAMES = ("B", "SFT", "SFT+TL", "HTD", "SEM", "SPA", "ALL", "Merged")
METRICS = ("rouge_l", "bleu", "em", "rs", "bs")
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>\'"&{{ 7 * 7 }}'
BANNER = "This shows that the pipeline runs. It is no evidence about any method."


def row(name, value, width=0.05, n=16):
    numbers = {m: value + i / 1000 for i, m in enumerate(METRICS)}
    ci = {m: [v - width, v + width] for m, v in numbers.items()}
    return {"name": name, **numbers, "n": n, "pairs": 3 * n, "ci": ci}


def table(n=16, width=0.05):
    rows = [row(name, 0.3 + 0.021 * i, width, n) for i, name in enumerate(NAMES)]
    return {"rows": rows, "signatures": {"bleu": "tok:13a"}, "detectable": {"rs": 0.163}}


def weights(models=3, count=30):
    rows = [[0.3 + 0.01 * ((k + layer) % 7) for layer in range(count)] for k in range(models)]
    names = [f"M{k}" for k in range(models)]
    return LayerWeights(
        models=names, layers=count, weights=rows, distances=rows, outside_layers=[0.3] * models
    )


def scores(kinds=("how_to_do", "semantic")):
    by_type = {k: {"rs": 0.4, "pairs": 9, "ci": {"rs": [0.2, 0.6]}} for k in kinds}
    return {"models": {name: {"by_type": by_type} for name in NAMES}}


def example(ident="q1", answers=("yes", "no"), query="How do we start?", kind="how_to_do"):
    first, *others = answers
    wordings = [AskedWording(ident, query, None, ["p1"], {"B": first})]
    wordings += [
        AskedWording(f"{ident}.{i}", query, kind, ["p2"], {"B": a}) for i, a in enumerate(others)
    ]
    return Example(ident, wordings)


def attribution(kinds=("how_to_do", "semantic"), how="fixed", share=0.37, gen=0.63):
    """As SCORES holds it, of one metric."""
    ends = {"e2e": [0.38, 0.45], "gen": [0.6, 0.66], "retriever_share": [share - 0.1, share + 0.1]}
    found = {"e2e": 0.41, "gen": gen, "retriever_share": share, "generator_share": 1 - share}
    steady = {"jaccard": 0.6, "same_first": 0.7, "ci": {"jaccard": [0.5, 0.7]}, "n": 8, "pairs": 9}
    part = {
        "retriever": steady,
        "metrics": {"rs": {**found, "n": 8, "pairs": 9, "ci": ends}},
    }
    by_type = dict.fromkeys(kinds, part)
    return {"how": how, "note": "so it was", "sentence": "said", **part, "by_type": by_type}


def full(text="helpdesk"):
    return ReportContent(
        title=text,
        table={
            "rows": [
                {**r, "attribution": {**attribution((text,)), "sentence": text}}
                for r in table()["rows"]
            ],
            "detectable": {"rs": 0.163},
            "signatures": {text: text},
        },
        scores=scores((text, "semantic")),
        layer_weights=weights().model_copy(update={"models": (text, "SEM", "SPA")}),
        config={"base": text, text: text, "evaluate": {"T": 0.7}, "merge": {"method": text}},
        counts={
            "questions": {"test": 16},
            "wordings": {"test": {text: 5}},
            "skipped": {text: {text: 4}},
        },
        examples=[example(text, (text, text + "!"), text, text)],
        timings={text: 12.0},
        notes=[text],
    )


def svgs(page):
    return re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)


def test_one_file_appears_and_is_the_same_every_time(tmp_path):
    report(full(), tmp_path / "run" / "report.html")
    report(full(), tmp_path / "again.html")
    first = (tmp_path / "run" / "report.html").read_bytes()
    assert first == (tmp_path / "again.html").read_bytes()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.html"]


numbers = st.none() | st.floats(0, 1) | st.just(float("nan"))
rows_of_numbers = st.lists(
    st.fixed_dictionaries(
        {"name": st.text(min_size=1, max_size=30), **dict.fromkeys(METRICS, numbers)}
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(rows_of_numbers)
def test_every_name_and_number_appears(rows):
    page = render(ReportContent(table={"rows": rows}))
    for one in rows:
        assert str(escape(clean(one["name"]))) in page
        for metric in METRICS:
            value = one[metric]
            printed = "-" if value is None or value != value else f"{value:.3f}"
            assert f"<td>{printed}" in page
    for picture in svgs(page):
        ET.fromstring(picture)


@pytest.mark.parametrize(
    "text", [EVIL, "مرحبا بكم", "\u202eabc", "🙂", "w" * 400, "a\x00b\ud800c", "]]>--><!--"]
)
def test_users_text_is_escaped_everywhere(text):
    page = render(full(text))
    page.encode("utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert len(svgs(page)) == 14
    for picture in svgs(page):
        ET.fromstring(picture)


def test_script_in_every_place_is_shown_as_text():
    assert render(full(EVIL)).count("&lt;script&gt;") > 15


def test_nothing_is_loaded_or_run():
    page = render(full("see https://example.org/a.png"))
    assert not re.search(r"<(script|link|iframe|object|embed|img|image|use)\b", page)
    assert not re.search(r"""(src|srcset|data|action)\s*=\s*["']?http""", page)
    assert set(re.findall(r'href="([^"#]*)', page)) == {""}
    assert not re.search(r"url\(|@import", page)
    assert not re.search(r"\son\w+=", page)


def test_an_empty_run_says_what_is_missing():
    page = render(ReportContent())
    assert page.count('class="missing"') >= 9
    assert BANNER in page
    assert "number of test questions is not known" in page
    assert not svgs(page)


@pytest.mark.parametrize("part", list(ReportContent.__dataclass_fields__))
def test_any_part_may_be_missing(part):
    whole = {name: getattr(full(), name) for name in ReportContent.__dataclass_fields__}
    whole[part] = "" if part == "title" else None
    assert render(ReportContent(**whole)).endswith("</html>")


@pytest.mark.parametrize(
    "content",
    [
        ReportContent(table={"rows": None}, scores={"models": None}, counts={"skipped": {"x": 3}}),
        ReportContent(table={"rows": [{"name": "B", "ci": None, "attribution": None}]}),
        ReportContent(layer_weights=LayerWeights(models=(), layers=0, weights=())),
        ReportContent(layer_weights=LayerWeights(models=("A",), layers=1, weights=((0.5,),))),
        ReportContent(layer_weights=weights(2, 1)),
        ReportContent(examples=[Example("q", [])]),
        ReportContent(examples=[Example("q", [AskedWording("q", "Q?")])]),
        ReportContent(scores={"models": {"B": {"by_type": {"x": 0.5}}}}),
        ReportContent(table={"rows": [{"name": "B", "attribution": {"metrics": {"rs": 0.5}}}]}),
    ],
)
def test_odd_content_does_not_break_it(content):
    for picture in svgs(render(content)):
        ET.fromstring(picture)


def test_a_small_test_set_has_a_banner_with_what_it_could_detect():
    small, large = render(ReportContent(table=table(99))), render(ReportContent(table=table(100)))
    assert BANNER in small
    assert BANNER not in large
    assert "RS 0.163" in small
    assert "RS 0.163" in large


def test_best_is_marked_only_where_its_interval_excludes_all_others():
    assert "<strong>0." not in render(ReportContent(table=table(width=0.05)))
    assert render(ReportContent(table=table(width=0.005))).count("<strong>0.") == len(METRICS)
    alone = {"rows": [row("B", 0.5)]}
    assert "<strong>0." not in render(ReportContent(table=alone))


def test_long_answers_are_cut_and_say_so():
    page = render(ReportContent(examples=[example(answers=("x" * 100_000, "y"))]))
    assert "100,000 characters in all" in page
    assert "x" * (LONGEST + 1) not in page
    assert len(page) < 40_000


def test_worst_questions_come_first():
    agreeing, torn = example("good", ("a", "a")), example("bad", ("a", "b"))
    page = render(ReportContent(examples=[agreeing, torn]))
    assert page.index("<bdi>bad</bdi>") < page.index("<bdi>good</bdi>")
    given = [Example("low", torn.wordings, None, 0.2), Example("high", torn.wordings, None, 0.9)]
    page = render(ReportContent(examples=given[::-1]))
    assert page.index("<bdi>low</bdi>") < page.index("<bdi>high</bdi>")


def test_every_picture_is_named_and_its_text_is_large_enough():
    page = render(full())
    idents = re.findall(r'\bid="([^"]+)"', page)
    assert len(idents) == len(set(idents))
    for picture in svgs(page):
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        assert [child.tag for child in root][:2] == ["title", "desc"]
        assert all(child.text for child in list(root)[:2])
        assert all(float(t.get("font-size")) >= 11 for t in root.iter("text"))


def test_pareto_front():
    rows = [
        {"name": n, "rouge_l": x, "rs": y}
        for n, x, y in [("a", 0.1, 0.9), ("b", 0.5, 0.5), ("c", 0.4, 0.4), ("d", 0.9, 0.5)]
    ]
    assert [p.name for p in pareto(points_of(rows))] == ["a", "d"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(150, 500), st.floats(80, 300)), min_size=1, max_size=8))
def test_labels_cover_neither_points_nor_one_another(points):
    named = [(name, x, y) for name, (x, y) in zip(NAMES, points, strict=False)]
    labels = place(named, [], Box(0, 0, 680, 400))
    assert not any(a.box.meets(b.box) for a, b in combinations(labels, 2))
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    assert not any(label.box.meets(spot) for label in labels for spot in marks)


def test_all_points_in_one_place_can_still_be_told_apart():
    rows = [{"name": n, "rouge_l": 0.0, "rs": 0.0} for n in NAMES]
    picture = plane(rows, roles_of(NAMES, ()), 340)
    assert all(f">{name}</text>" in picture for name in NAMES)


def test_charts_are_empty_without_data():
    assert plane([], {}) == ""
    assert charts.by_kind([], {}) == ""
    assert charts.retrieval_chart(None) == ""
    assert layers.heatmap(LayerWeights(models=(), layers=0, weights=())) == ""
    assert layers.distances(LayerWeights(models=("A",), layers=1, weights=((1.0,),))) == ""


def test_heatmap_has_a_cell_for_each_weight_and_the_range():
    picture = layers.heatmap(weights(3, 30))
    assert picture.count("<title>M") == 90
    assert ">0.36<" in picture


def test_near_equal_distances_are_called_noise():
    flat = [[0.9, 0.9], [0.9001, 0.9]]
    made = LayerWeights(models=("A", "B"), layers=2, weights=flat, distances=flat)
    page = render(ReportContent(layer_weights=made))
    assert "mostly noise into weights" in page
    assert "With two models" in page


def test_roles():
    roles = roles_of(["B", "ALL", "Merged", "HTD", "soup"], ["HTD"])
    assert list(roles.values()) == ["baseline", "all", "merged", "specialist", "other"]
    assert len({mark(role, 0, 0).split(" class")[0] for role in roles.values()}) == 5


def test_ticks_and_shortening():
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert tick_label(0.05, [0.0, 0.05]) == "0.05"
    assert tick_label(0.2, [0.0, 0.2]) == "0.2"
    assert width_of(shorten("x" * 500, 80)) <= 80
    assert shorten("short", 80) == "short"


# --- Where the inconsistency comes from


def page_of(*found):
    rows = [
        {**row(f"M{i}", 0.4), "attribution": own} if own else row(f"M{i}", 0.4)
        for i, own in enumerate(found)
    ]
    return render(ReportContent(table={"rows": rows}))


def section(page, name):
    return page.split(f'<section aria-labelledby="{name}">')[1].split("</section>")[0]


def drawn(shown, which):
    """The wide picture of all rows, or of the kinds of rewording."""
    return re.search(rf"<svg[^>]*origin-{which}-720.*?</svg>", shown, flags=re.DOTALL)[0]


def widths(picture, name):
    """Part of the bar of a row -> its share of the pairs, as the tooltip says."""
    told = re.findall(rf"<title>{name}, (\w+): ([\d.]+)</title>", picture)
    return {part: float(size) for part, size in told}


def test_bars_are_cut_where_the_generators_part_ends():
    shown = section(page_of(attribution()), "origins")
    rows, kinds = (drawn(shown, which) for which in ("rows", "kinds"))
    assert widths(rows, "M0") == {"generator": 0.37, "retriever": 0.22}
    assert widths(kinds, "semantic") == {"generator": 0.37, "retriever": 0.22}
    assert ">37 % [27 to 47]<" in rows
    rects = ET.fromstring(rows).iter("rect")
    bars = {e.get("class"): e for e in rects if e.find("title") is not None}
    length = {name: float(bar.get("width")) for name, bar in bars.items()}
    assert length["part generator"] / length["part retriever"] == pytest.approx(37 / 22, rel=0.01)
    assert '<li dir="auto">said</li>' in shown
    assert "no passages were held fixed" not in shown


def test_a_bar_with_noise_and_one_where_own_passages_help():
    noisy = attribution()
    noisy["metrics"]["rs"] |= {"floor": 0.9, "noise_share": 0.17}
    noisy["metrics"]["rs"]["ci"]["noise_share"] = [0.1, 0.2]
    shown = section(page_of(noisy, attribution(share=-0.2, gen=0.3)), "origins")
    picture = drawn(shown, "rows")
    assert widths(picture, "M0") == {"noise": 0.1, "generator": 0.27, "retriever": 0.22}
    assert widths(picture, "M1") == {"generator": 0.7}
    assert ">\N{MINUS SIGN}20 % [\N{MINUS SIGN}30 to \N{MINUS SIGN}10]<" in picture
    assert "17 %<small>10 to 20</small>" in shown
    ends = [float(e.get("x2")) for e in ET.fromstring(picture).iter("line")]
    assert max(ends) <= 720  # no whisker leaves the picture


def test_an_observed_row_is_marked_and_an_unknown_one_named():
    unknown = {"how": "none", "note": "nothing", "metrics": {"rs": {"e2e": 0.4}}, "by_type": {}}
    shown = section(page_of(attribution(how="observed"), unknown), "origins")
    assert "~37 %" in shown
    assert "no passages were held fixed" in shown
    assert "Not drawn, nothing is known: <bdi>M1</bdi>." in shown
    shown = page_of(unknown)
    assert "Not known: nothing." in section(shown, "origins")
    assert "the answers name no passages" in section(shown, "retrieval")


def test_a_share_without_an_interval_is_not_printed():
    few = attribution(share=-63.0)
    few["metrics"]["rs"]["ci"]["retriever_share"] = None
    shown = section(page_of(few), "origins")
    assert "too few disagree" in shown
    assert "6300" not in shown
    none = attribution()
    none["metrics"]["rs"] |= {"e2e": 1.0, "gen": 1.0, "retriever_share": None}
    none["metrics"]["rs"]["ci"]["retriever_share"] = None
    assert "nothing to explain" in section(page_of(none), "origins")


def test_retrieval_shows_every_row_and_the_kinds_of_the_first():
    shown = section(page_of(attribution(), attribution(kinds=())), "retrieval")
    picture = re.search(r"<svg.*?</svg>", shown, flags=re.DOTALL)[0]
    assert picture.count("0.70 · 0.60") == 3  # two kinds, and all wordings
    assert shown.count("0.600<small>0.500\N{EN DASH}0.700</small>") == 2
    assert "8 questions, 9 pairs" in shown
    gold = attribution()
    gold["retriever"] |= {"hit_original": 0.9, "hits_kept": 0.8}
    assert "originals&#39; hits kept" in section(page_of(gold), "retrieval")
