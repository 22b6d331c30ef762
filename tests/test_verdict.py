import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from accord.evaluate.verdict import Outcome, Verdict, escape, junit, markdown, number, visible
from accord.records import write_text

ENDS = (0.371, 0.455)
PASSED = Outcome("rs >= 0.35", "rs", 0.412, ENDS, ">=", 0.35, 400, 1579)
FAILED = Outcome("rs >= 0.4", "rs", 0.412, ENDS, ">=", 0.4, 400, 1579)
UNDECIDED = Outcome("rs <= 0.4", "rs", 0.412, None, "<=", 0.4, 1, 1)
WORSE = Outcome(
    "rs not worse than A|B by 0.01",
    "rs minus that of `A|B`",
    -0.004,
    (-0.013, 0.005),
    ">=",
    -0.01,
    400,
    signed=True,
)
SIZES = {"questions": 400, "n": 390, "pairs": 1579}
VERDICT = Verdict("Merged", (PASSED, FAILED, UNDECIDED, WORSE), SIZES)
ROW = {"rouge_l": 0.5, "rs": 0.412, "bs": None, "ci": {"rs": [0.371, 0.455], "bs": None}} | SIZES
SIGNATURES = {"rs": "ROUGE-L F1 > 0.7", "rouge_l": "ROUGE-L|measure:f1", "T": 0.7}
SCORES = {"models": {"A|B": ROW, "Merged": ROW}, "signatures": SIGNATURES}

anything = st.text(st.characters(), min_size=1, max_size=20)  # controls and surrogates too
hostile = anything | st.text("|`<>&*_[]()#@:~!$\\x a1\n\t\r", min_size=1, max_size=20)

# Jenkins' junit-10.xsd: element -> children, required and optional attributes.
SCHEMA = {
    "testsuites": ({"testsuite"}, set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log"},
    ),
    "properties": ({"property"}, set(), set()),
    "property": (set(), {"name", "value"}, set()),
    "testcase": (
        {"skipped", "error", "failure", "system-out", "system-err"},
        {"name"},
        {"time", "classname", "group"},
    ),
    "failure": (set(), set(), {"type", "message"}),
    "system-out": (set(), set(), set()),
}


def check_schema(element):
    children, required, optional = SCHEMA[element.tag]
    assert required <= set(element.attrib) <= required | optional
    for child in element:
        assert child.tag in children
        check_schema(child)


def read(xml):
    """The suite of a JUnit file, read as the bytes that are written."""
    root = ET.fromstring(xml.encode("utf-8"))
    assert root.tag == "testsuites"
    check_schema(root)
    (suite,) = root
    return suite


def test_junit_has_a_case_for_each_clause():
    suite = read(junit(VERDICT))
    assert suite.attrib == {
        "name": "accord gate: Merged",
        "tests": "4",
        "failures": "3",
        "errors": "0",
        "skipped": "0",
    }
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties == {"model": "Merged", "questions": "400", "n": "390", "pairs": "1579"}
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [o.clause for o in VERDICT.outcomes]
    assert {case.get("classname") for case in cases} == {"accord.gate.Merged"}
    failures = [case.find("failure") for case in cases]
    assert [f is None for f in failures] == [True, False, False, False]
    assert [f.get("type") for f in failures[1:]] == ["failed", "undecided", "failed"]
    for outcome, failure in zip(VERDICT.outcomes[1:], failures[1:], strict=True):
        assert failure.get("message") == outcome.sentence
        assert failure.text == f"{outcome.clause}\n{outcome.sentence}"
    assert cases[0].find("system-out").text == PASSED.sentence


def test_junit_of_a_pass_has_no_failure():
    suite = read(junit(Verdict("M", (PASSED,), {})))
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
    assert not list(suite.iter("failure"))


def test_the_parts_of_a_class_name_do_not_come_from_the_model():
    suite = read(junit(Verdict("llama-3.2", (PASSED,), {})))
    assert suite.find("testcase").get("classname") == "accord.gate.llama-3_2"


@given(hostile, hostile)
def test_junit_is_xml_whatever_the_names(model, name):
    clause = f"rs better than {name}"
    outcome = Outcome(clause, f"rs minus that of `{name}`", 0.0, None, ">", 0.0)
    suite = read(junit(Verdict(model, (outcome,), {})))
    assert suite.find(".//property[@name='model']").get("value") == visible(model)
    assert suite.find("testcase").get("name") == visible(clause)
    assert suite.find(".//failure").get("message") == visible(outcome.sentence)


@given(anything)
def test_visible_keeps_what_can_be_seen_and_loses_nothing(text):
    shown = visible(text)
    assert visible(shown) == shown
    assert shown.encode("utf-8")
    if "\\" not in text:
        escaped = re.compile(r"\\x(..)|\\u(....)|\\U(.{8})|\\(r)")
        back = escaped.sub(lambda m: "\r" if m[4] else chr(int(m[1] or m[2] or m[3], 16)), shown)
        assert back == text


def test_the_same_verdict_gives_the_same_files(tmp_path):
    for write in (junit, lambda verdict: markdown(verdict, SCORES)):
        write_text(tmp_path / "file", write(VERDICT))
        assert (tmp_path / "file").read_text(encoding="utf-8") == write(VERDICT)


def rendered(text):
    """The tables (cells as text) and the other blocks of a Markdown text, as a renderer has it."""
    tables, blocks, cells = [], [], None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            cells = []
            tables[-1].append(cells)
        elif token.type == "table_close":
            cells = None
        elif token.type == "inline":
            (blocks if cells is None else cells).append(plain(token))
    return tables, blocks


def plain(token):
    """The text that a reader sees; fails on any markup but code and bold."""
    for child in token.children:
        assert child.type in {"text", "text_special", "html_inline", "strong_open", "strong_close"}
        assert child.type != "html_inline" or child.content in {"<code>", "</code>"}
    return "".join(c.content for c in token.children if c.type in {"text", "text_special"})


def test_markdown_shows_the_clauses_and_the_models():
    (clauses, models), blocks = rendered(markdown(VERDICT, SCORES))
    assert clauses == [
        ["clause", "value", "95 % interval", "decided by", "result"],
        ["rs >= 0.35", ".412", "[.371, .455]", "lower end .371", "passed"],
        ["rs >= 0.4", ".412", "[.371, .455]", "lower end .371", "failed"],
        ["rs <= 0.4", ".412", "-", "no interval", "undecided"],
        ["rs not worse than A|B by 0.01", "-.004", "[-.013, +.005]", "lower end -.013", "failed"],
    ]
    cells = [".500", ".412 [.371, .455]", "-", "390", "1579"]
    assert models == [
        ["model", "rouge_l", "rs", "bs", "n", "pairs"],
        ["A|B", *cells],
        ["Merged", *cells],
    ]
    assert blocks == [
        "accord gate failed, 3 of 4 clauses: Merged",
        FAILED.sentence,
        UNDECIDED.sentence,
        WORSE.sentence,
        "What the numbers are: rouge_l: ROUGE-L|measure:f1; rs: ROUGE-L F1 > 0.7.",
    ]


def test_markdown_of_a_pass_is_short():
    text = markdown(Verdict("Merged", (PASSED,), SIZES), {"models": {"Merged": ROW}})
    tables, blocks = rendered(text)
    assert blocks == ["accord gate passed, 1 clause: Merged"]
    assert [len(table) for table in tables] == [2, 2]
    assert text.endswith(" |\n")


def test_markdown_shows_the_warnings_of_the_scores():
    _, blocks = rendered(markdown(VERDICT, SCORES | {"warnings": ["12 questions: <few>"]}))
    assert "12 questions: <few>" in blocks


@given(hostile, hostile)
def test_markdown_shows_any_name_as_it_is(model, name):
    clause = f"rs better than {name}."
    outcome = Outcome(clause, f"rs minus that of `{name}`", 0.0, None, ">", 0.0)
    scores = {"models": {model: ROW, "M": ROW}, "signatures": SIGNATURES}
    (clauses, models), blocks = rendered(markdown(Verdict(model, (outcome,), {}), scores))
    line = str.maketrans("\n\t", "  ")
    assert clauses[1][0] == visible(clause).translate(line)
    assert len(clauses[1]) == 5
    assert models[1][0] == visible(model).translate(line)
    assert len(models) == (2 if model == "M" else 3)
    assert {len(cells) for cells in models} == {6}
    assert blocks[0] == f"accord gate failed, 1 of 1 clause: {visible(model).translate(line)}"
    assert blocks[1] == visible(outcome.sentence).translate(line)


@pytest.mark.parametrize("text", ["rs", "by_type.how_to_do.rs", "SFT+TL", "my/model-1.5 (2)"])
def test_plain_names_stay_readable(text):
    assert escape(text) == text


@pytest.mark.parametrize(
    ("value", "signed", "digits", "shown"),
    [
        (0.4124, False, 3, ".412"),
        (1.0, False, 3, "1.000"),
        (0.9999, False, 3, "1.000"),
        (0.0, False, 3, ".000"),
        (-0.0001, True, 3, ".000"),
        (0.0001, True, 3, ".000"),
        (-0.0125, True, 3, "-.013"),
        (0.012, True, 3, "+.012"),
        (-0.012, False, 4, "-.0120"),
        (-1.0, True, 3, "-1.000"),
    ],
)
def test_number(value, signed, digits, shown):
    assert number(value, signed, digits) == shown
