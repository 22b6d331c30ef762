"""The table for people: written, marked, edited, read back."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError
from accord.records import Question, Skipped, Variation
from accord.vary.cells import read_rows, render
from accord.vary.review import COLUMNS, read_review, write_review

QUESTIONS = [Question(id="q1", query="How do I pay?"), Question(id="q2", query="Is it open?")]
MADE = [
    Variation.model_validate(
        {"id": "q2~semantic~0", "original_id": "q2", "type": "semantic", "query": "Open now?"}
    ),
    Variation.model_validate(
        {
            "id": "q1~how_to_do~0",
            "original_id": "q1",
            "type": "how_to_do",
            "query": "How to pay?",
            "operator": "how_to_do",
            "before": "How do I",
            "seed": 3,
            "note": {"deep": [1, None]},
        }
    ),
]
SKIPPED = [
    Skipped.model_validate(
        {"original_id": "q1", "type": "semantic", "reason": "a number", "query": "Pay 2?"}
    ),
    Skipped(original_id="q2", type="i_we", reason="no question in the first person"),
]
SUFFIXES = [".csv", ".tsv", ".md"]


def table(path, variations=MADE, skipped=SKIPPED, questions=QUESTIONS):
    write_review(variations, skipped, questions, path)
    return list(read_rows(path, COLUMNS))


def save(path, rows):
    """As a person's program would: the same columns, changed cells."""
    path.write_text(render([COLUMNS, *([row[c] for c in COLUMNS] for row in rows)], path), "utf-8")


def marked(path, marks, **edits):
    """Write the table, mark its rows in order, edit the row of each id, and save it."""
    rows = table(path)
    for row, mark in zip(rows, marks, strict=True):
        row["mark"] = mark
        row["variation"] = edits.get(row["type"], row["variation"])
    save(path, rows)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_table_follows_the_questions_and_says_why_not(tmp_path, suffix):
    rows = table(tmp_path / f"r{suffix}")
    assert [(r["original"], r["variation"], r["note"]) for r in rows] == [
        ("How do I pay?", "How to pay?", ""),
        ("How do I pay?", "Pay 2?", "a number"),
        ("Is it open?", "Open now?", ""),
        ("Is it open?", "", "no question in the first person"),
    ]
    assert {r["mark"] for r in rows} == {""}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_marked_rows_come_back_as_they_were_with_all_their_fields(tmp_path, suffix):
    path = marked(tmp_path / f"r{suffix}", ["Y", "no", " X ", ""])
    assert read_review(path, QUESTIONS) == [MADE[1], MADE[0]]


@pytest.mark.parametrize("mark", ["y", "Yes", "X", "1", "OK", "ok ", "TRUE"])
def test_marks_that_take(tmp_path, mark):
    assert read_review(marked(tmp_path / "r.csv", [mark, "", "", ""])) == [MADE[1]]


@pytest.mark.parametrize("mark", ["n", "No", "0", "FALSE", "", " "])
def test_marks_that_do_not(tmp_path, mark):
    assert read_review(marked(tmp_path / "r.csv", [mark, "", "", ""])) == []


def test_undecided_may_be_kept_but_never_what_was_turned_down(tmp_path):
    path = marked(tmp_path / "r.csv", ["", "", "n", ""])
    assert read_review(path, undecided="keep") == [MADE[1]]


def test_an_edited_wording_is_a_persons_and_loses_the_operator(tmp_path):
    path = marked(tmp_path / "r.csv", ["y", "", "", ""], how_to_do="How could I pay?")
    (taken,) = read_review(path)
    assert taken.model_dump() == {
        "id": "q1~how_to_do~0",
        "original_id": "q1",
        "type": "how_to_do",
        "query": "How could I pay?",
        "note": {"deep": [1, None]},
        "written_by": "human",
    }


def test_other_white_space_is_no_edit(tmp_path):
    path = marked(tmp_path / "r.csv", ["y", "", "", ""], how_to_do="How to  pay? ")
    assert read_review(path)[0].model_dump()["operator"] == "how_to_do"


def test_a_rejected_or_a_new_wording_can_be_taken_and_gets_an_id(tmp_path):
    path = marked(tmp_path / "r.csv", ["", "y", "", "y"], i_we="Are we open?")
    rejected, written = read_review(path, QUESTIONS)
    assert (rejected.query, rejected.id) == ("Pay 2?", "q1~semantic~review0")
    assert "written_by" not in rejected.model_dump()
    assert (written.query, written.original_id) == ("Are we open?", "q2")
    assert written.model_dump()["written_by"] == "human"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_errors_name_the_line_and_the_way_out(tmp_path, suffix):
    path = tmp_path / f"r{suffix}"
    second = 4 if suffix == ".md" else 3
    for change, wanted in (
        ({"mark": "maybe"}, f"line {second}: mark `maybe`; y, n or nothing is wanted"),
        ({"mark": "y", "variation": " "}, f"line {second}: is marked but has no wording"),
        ({"mark": "y", "provenance": "{"}, f"line {second}: column `provenance` was changed"),
        ({"mark": "y", "provenance": '{"id": "x"}'}, "column `provenance` was changed"),
        ({"mark": "y", "type": ""}, f"line {second}: field `type` is empty"),
        ({"original_id": "q9"}, f"line {second}: no question `q9`"),
        ({"mark": "y", "id": "q1~how_to_do~0"}, f"line {second}: id `q1~how_to_do~0` occurs twice"),
    ):
        rows = table(path)
        rows[0]["mark"] = "y"
        rows[1].update(change)
        save(path, rows)
        with pytest.raises(InputError, match=wanted):
            read_review(path, QUESTIONS)


def test_lines_are_counted_past_cells_with_line_breaks(tmp_path):
    rows = table(tmp_path / "r.csv")
    rows[0]["variation"], rows[1]["mark"] = "one\ntwo\nthree", "?"
    save(tmp_path / "r.csv", rows)
    with pytest.raises(InputError, match="line 5: mark"):
        read_review(tmp_path / "r.csv")


@pytest.mark.parametrize("column", ["mark", "original_id", "type", "variation", "id", "made"])
def test_a_missing_column_is_named(tmp_path, column):
    path = tmp_path / "r.csv"
    write_review(MADE, SKIPPED, QUESTIONS, path)
    path.write_text(path.read_text("utf-8-sig").replace(f'"{column}"', '"other"', 1), "utf-8")
    with pytest.raises(InputError, match=f"line 1: no column `{column}`"):
        read_review(path)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is empty"),
        ("Caf\u00e9".encode("latin-1"), "not UTF-8"),
        (b'"mark","id"\n"unclosed', "line 1: no column|not a row"),
        (b"mark,mark,id,original_id,type,variation,made\n", "`mark` occurs twice"),
        (b"mark,id,original_id,type,variation,made\n,,,,,,,x\n", "line 2: 8 cells"),
        (b'mark,id,original_id,type,variation,made\n,,,,"a\n', "line 2: not a row"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, content, wanted):
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=wanted):
        read_review(path)


def test_other_suffixes_missing_files_and_strangers_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.csv, \.tsv or \.md"):
        write_review(MADE, [], QUESTIONS, tmp_path / "r.xlsx")
    with pytest.raises(InputError, match="no such file"):
        read_review(tmp_path / "r.csv")
    with pytest.raises(InputError, match="no question `q1`"):
        write_review(MADE, [], QUESTIONS[1:], tmp_path / "r.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_spreadsheet_may_save_with_another_separator(tmp_path, delimiter):
    path = marked(tmp_path / "r.csv", ["y", "", "1", ""])
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    with path.open("w", encoding="utf-8-sig", newline="") as out:
        csv.writer(out, delimiter=delimiter).writerows(rows)
    assert read_review(path, QUESTIONS) == [MADE[1], MADE[0]]


def test_a_person_may_add_spaces_and_pipes_by_hand_in_markdown(tmp_path):
    path = tmp_path / "r.md"
    path.write_text(
        "# My review\n\n|mark|id|original_id|type|variation|made|\n|:--|---|---|---|--:|---|\n"
        "|y||q1|semantic|either \\| or||\n||x|q1|i_we|no|\n\nDone.\n"
    )
    (taken,) = read_review(path, QUESTIONS)
    assert taken.query == "either | or" and taken.model_dump()["written_by"] == "human"


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''", "\uff1d1"]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_no_cell_begins_a_formula_and_all_come_back(tmp_path, suffix, formula):
    path = tmp_path / f"r{suffix}"
    made = [
        Variation.model_validate(
            {"id": formula, "original_id": "q1", "type": formula + "x", "query": formula + "y"}
        )
    ]
    rows = table(path, made, [], [Question(id="q1", query=formula)])
    delimiter = "," if suffix == ".csv" else "\t"
    text = path.read_text("utf-8-sig")
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        assert not any(cell.startswith(tuple("=+-@\t\r\n\uff1d")) for cell in row)
    rows[0]["mark"] = "y"
    save(path, rows)
    assert read_review(path) == made


def test_a_quoted_word_that_a_person_wrote_keeps_its_mark(tmp_path):
    path = marked(tmp_path / "r.csv", ["y", "", "", ""])
    path.write_text(path.read_text("utf-8").replace("How to pay?", "'Tis how to pay?"), "utf-8")
    assert read_review(path)[0].query == "'Tis how to pay?"


SAFE = st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from(
    "\n\t\r,;\"'|\\<>&=+-@ \u200f"
)
TEXT = st.text(SAFE, min_size=1).filter(str.strip) | st.sampled_from(
    ["\u05de\u05d4 \u05e9\u05e2\u05d4?", "\U0001f600, \"ja\"", "a|b\\|c<br>&amp;", " x ", "`a` *b*"]
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT, st.booleans()), unique_by=lambda row: row[0], max_size=5),
    st.sampled_from(SUFFIXES),
    TEXT,
)
def test_a_round_trip_loses_nothing(tmp_path_factory, rows, suffix, extra):
    path = tmp_path_factory.mktemp("review") / f"r{suffix}"
    question = Question(id=extra, query=extra)
    made = [
        Variation.model_validate(
            {"id": name, "original_id": extra, "type": kind, "query": query, "operator": extra}
        )
        for name, kind, query, _ in rows
    ]
    read = table(path, made, [], [question])
    assert [row["original"] for row in read] == [extra] * len(rows)
    for row, (_, _, _, taken) in zip(read, rows, strict=True):
        row["mark"] = "x" if taken else "n"
    save(path, read)
    assert read_review(path, [question]) == [v for v, row in zip(made, rows, strict=True) if row[3]]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(SUFFIXES))
def test_any_file_is_read_or_refused(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("any") / f"r{suffix}"
    header = b"|mark|id|original_id|type|variation|made|\n" if suffix == ".md" else b""
    path.write_bytes(header + content)
    try:
        read_review(path)
    except InputError as error:
        assert str(error).startswith(str(path))


@given(st.text(min_size=1).filter(str.strip))
def test_what_a_table_cannot_hold_is_shown_and_no_edit(text):
    from accord.vary.cells import showable
    from accord.vary.review import _digest

    assert _digest(text) == _digest(showable(text))
    showable(text).encode()
