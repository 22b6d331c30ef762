"""Records and their files: what is refused, what is kept, what is never half written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from accord.errors import InputError
from accord.records import (
    Answer,
    LayerWeights,
    Passage,
    Question,
    Variation,
    read_records,
    require_unique,
    to_json,
    write_records,
    write_text,
)

GOOD = b'{"id": "a", "query": "How?"}\n'
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def refused(path, kind=Question):
    with pytest.raises(InputError) as caught:
        read_records(path, kind)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


BAD_LINES = {
    b'{"id": "b", "query": ': ("line 2", "JSON", "column"),
    b"not json": ("line 2", "JSON"),
    b'["id", "b"]': ("line 2", "object"),
    b'"text"': ("line 2", "object"),
    b"null": ("line 2", "object"),
    b'{"id": "b", "query": "caf\xe9"}': ("line 2", "UTF-8"),
    b'{"query": "How?"}': ("line 2", "`id`", "missing"),
    b'{"id": "", "query": "How?"}': ("line 2", "`id`", "empty"),
    b'{"id": "b", "query": ""}': ("line 2", "`query`", "empty"),
    b'{"id": "b", "query": " \\t\\n"}': ("line 2", "`query`", "empty"),
    b'{"id": "b", "query": ["How?"]}': ("line 2", "`query`", "string"),
    b'{"id": "b", "query": null}': ("line 2", "`query`", "null"),
    b'{"id": "b", "query": "How?", "answer": {}}': ("line 2", "`answer`"),
    b'{"id": "b", "query": "How?", "split": "eval"}': ("line 2", "`split`", "'train'"),
    b'{"id": "b", "query": "How?", "context_ids": "c"}': ("line 2", "`context_ids`"),
    b'{"id": "b", "query": "\\ud800"}': ("line 2", "`query`"),
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_names_file_line_and_field(tmp_path, line):
    path = tmp_path / "qa.jsonl"
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    message = refused(path)
    for part in BAD_LINES[line]:
        assert part in message


def test_a_long_value_is_cut_in_the_message(tmp_path):
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps({"id": "a", "query": ["x" * 5000]}))
    assert len(refused(path)) < len(str(path)) + 200


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert "no such file" in refused(tmp_path / "none.jsonl")
    assert "folder" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / "file" / "qa.jsonl")


def test_a_bom_blank_lines_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "qa.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n\n" + b'{"id":2,"query":"x"}'
    )
    assert [q.id for q in read_records(path, Question)] == ["a", "2"]


@given(st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT, TEXT), max_size=5))
def test_what_is_written_is_read_back_with_unknown_fields(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records") / "qa.jsonl"
    questions = [
        Question.model_validate({"id": i, "query": q, "answer": a, "written by": extra})
        for i, q, a, extra in rows
    ]
    write_records(path, questions)
    again = read_records(path, Question)
    assert again == questions
    assert [q.model_extra for q in again] == [q.model_extra for q in questions]
    assert len(path.read_bytes().splitlines()) == len(rows)


def test_unset_optional_fields_are_left_out():
    assert to_json(Passage(id="p", text="t")) == '{"id": "p", "text": "t"}'


def test_records_are_immutable():
    with pytest.raises(ValidationError):
        Passage(id="p", text="t").text = "u"


def test_only_a_repeated_key_is_a_duplicate_answer():
    one = Answer(model="B", id="q", query="x", answer="y")
    assert one.key == ("B", "q", "own", 0)
    others = ({"model": "M"}, {"id": "r"}, {"contexts": "gold"}, {"repeat": 1})
    assert len({one.key, *(one.model_copy(update=o).key for o in others)}) == 5


def test_layer_weights_come_back_from_json():
    weights = LayerWeights(models=("A",), layers=2, weights=((0.1, 0.2),), outside_layers=(0.3,))
    assert LayerWeights.model_validate(json.loads(weights.model_dump_json())) == weights


def test_repeated_ids_are_refused_by_name():
    two = [Variation(id="v", original_id="q", type="t", query=q) for q in "xy"]
    require_unique(two[:1], "here")
    with pytest.raises(InputError, match=r"here.*`v`.*twice"):
        require_unique(two, "here")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"
