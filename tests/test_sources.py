"""Parquet where JSONL is read: the same records, and errors that name file, row and field."""

import json
import random
import sys
from datetime import datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from accord.config import Data
from accord.data import load_dataset
from accord.errors import InputError
from accord.records import Answer, Grounded, Passage, Question, Variation, read_records
from accord.vary.traffic import read_log

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
ID = TEXT | st.integers(-9, 10**12)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT},
    optional={"name": TEXT},
)
ROWS = {
    Question: st.fixed_dictionaries(
        {"id": TEXT, "query": TEXT},
        optional={
            "answer": TEXT,
            "context_ids": st.lists(TEXT, max_size=3),
            "split": st.sampled_from(["train", "dev", "test"]),
            "my field": st.floats(allow_nan=False) | st.integers(-(2**40), 2**40),
        },
    ),
    Passage: st.fixed_dictionaries({"id": TEXT, "text": TEXT}, optional={"title": TEXT}),
    Variation: st.fixed_dictionaries(
        {"id": TEXT, "original_id": TEXT, "type": TEXT, "query": TEXT, "seed": st.integers(0, 9)},
        optional={"span": st.lists(st.integers(0, 99), max_size=2)},
    ),
    Grounded: st.fixed_dictionaries(
        {
            "id": TEXT,
            "original_id": TEXT,
            "passages": st.lists(
                st.fixed_dictionaries(
                    {"id": TEXT, "score": st.floats(-9, 9)}, optional={"text": TEXT}
                ),
                max_size=3,
            ),
        }
    ),
    Answer: st.fixed_dictionaries(
        {"model": TEXT, "id": TEXT, "query": TEXT, "answer": TEXT}, optional={"repeat": st.just(1)}
    ),
}


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def columns(path, rows, **options):
    """The rows as Parquet; what a row lacks is null there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    parquet.write_table(table, path, **options)
    return path


def dumped(records):
    return [(type(r), r.model_dump(exclude_unset=True)) for r in records]


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_parquet_and_jsonl_of_the_same_rows_are_the_same_records(tmp_path_factory, kind, data):
    rows = data.draw(st.lists(ROWS[kind], min_size=1, max_size=6))
    if kind is Question:  # a column has one type
        for row in rows:
            row.update({"my field": float(row["my field"])} if "my field" in row else {})
    folder = tmp_path_factory.mktemp("both")
    one = read_records(jsonl(folder / "x.jsonl", rows), kind)
    two = read_records(columns(folder / "x.parquet", rows, row_group_size=2), kind)
    assert one == two
    assert dumped(one) == dumped(two)


@settings(deadline=None, max_examples=40)
@given(chats=st.lists(st.lists(TURN, max_size=3), min_size=1, max_size=4), ids=st.booleans())
def test_chats_too(tmp_path_factory, chats, ids):
    end = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    rows = [
        {"messages": [*chat, *end]} | ({"id": n} if ids else {}) for n, chat in enumerate(chats)
    ]
    folder = tmp_path_factory.mktemp("both")
    one = read_records(jsonl(folder / "x.jsonl", rows), Question)
    assert one == read_records(columns(folder / "x.parquet", rows), Question)
    assert [q.query for q in one] == ["How?"] * len(rows)


def test_numbers_are_ids_and_nulls_are_absent(tmp_path):
    rows = [
        {"id": 7, "query": "How?", "answer": None, "context_ids": [1, 2], "split": None},
        {"id": 8, "query": "Why?", "answer": "So.", "context_ids": None, "split": "dev"},
    ]
    first, second = read_records(columns(tmp_path / "qa.parquet", rows), Question)
    assert (first.id, first.context_ids, first.answer, first.split) == ("7", ("1", "2"), None, None)
    assert first.model_fields_set == {"id", "query", "context_ids"}
    assert second.context_ids == () and second.split == "dev"


def test_columns_without_json_are_not_read_and_bytes_that_are_text_are(tmp_path):
    image = pa.array([{"bytes": b"\xff\xd8", "path": "a.jpg"}])
    when = datetime(2024, 1, 1, tzinfo=timezone.utc)
    table = pa.table(
        {
            "id": pa.array(["q"]).dictionary_encode(),
            "query": pa.array([b"How?"]),
            "image": image,
            "raw": pa.array([b"\xff"]),
            "at": pa.array([when], pa.timestamp("ns", "UTC")),
            "score": pa.array([Decimal("1.00")]),
            "pairs": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "nothing": pa.nulls(1),
        }
    )
    parquet.write_table(table, tmp_path / "qa.parquet")
    (question,) = read_records(tmp_path / "qa.parquet", Question)
    assert question.query == "How?"
    assert question.model_extra == {"score": "1.00", "pairs": [["a", 1]]}
    json.loads(question.model_dump_json())


def refused(path, kind=Question):
    with pytest.raises(InputError) as caught:
        read_records(path, kind)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


MISTAKES = [
    ({"id": "c"}, " row 3: field `query` is missing"),
    ({"id": "c", "query": " "}, " row 3: field `query` is empty"),
    ({"query": "How?"}, " row 3: field `id` is missing"),
    ({"id": "c", "query": "How?", "split": "eval"}, ' row 3: field `split`: found "eval"; '),
]


@pytest.mark.parametrize(("row", "said"), MISTAKES)
def test_a_mistake_names_file_row_and_field(tmp_path, row, said):
    good = [{"id": i, "query": "How?", "split": "train"} for i in "ab"]
    assert refused(columns(tmp_path / "qa.parquet", [*good, row])).startswith(said)


def test_a_row_far_into_the_file_has_its_number(tmp_path):
    rows = [{"id": str(n), "query": "How?"} for n in range(1300)] + [{"id": "x"}]
    path = columns(tmp_path / "qa.parquet", rows, row_group_size=700)
    assert refused(path) == " row 1301: field `query` is missing"


def test_a_column_of_another_type_is_named(tmp_path):
    path = columns(tmp_path / "qa.parquet", [{"id": "a", "query": ["How?"]}])
    assert refused(path).startswith(' row 1: field `query`: found ["How?"]; ')
    path = columns(tmp_path / "p.parquet", [{"question": "How?", "reply": "So."}])
    assert refused(path, Passage) == " row 1: field `id` is missing"


def test_a_file_that_is_no_parquet_is_one_sentence(tmp_path):
    for n, data in enumerate((b"", b"PAR1", b'{"id": "a", "query": "How?"}\n', b"PAR1" * 9)):
        path = tmp_path / f"{n}.parquet"
        path.write_bytes(data)
        assert "no Parquet file" in refused(path) and ".jsonl" in refused(path)
    assert refused(tmp_path / "none.parquet") == ": no such file"
    (tmp_path / "folder.parquet").mkdir()
    assert refused(tmp_path / "folder.parquet") == ": is a folder; a Parquet file is wanted"


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    rows = [{"id": str(n), "query": f"How {n}?" * 9} for n in range(50)]
    whole = columns(tmp_path / "whole.parquet", rows).read_bytes()
    path = tmp_path / "part.parquet"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert "no Parquet file" in refused(path)


def test_damage_in_the_middle_is_a_sentence_or_other_values_and_no_crash(tmp_path):
    rows = [{"id": str(n), "query": f"How {n}?" * 9} for n in range(50)]
    whole = columns(tmp_path / "whole.parquet", rows).read_bytes()
    path, chance, complaints = tmp_path / "bad.parquet", random.Random(0), 0
    for _ in range(200):
        bad = bytearray(whole)
        for _ in range(3):
            bad[chance.randrange(4, len(bad) - 8)] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(bad))
        try:
            read_records(path, Question)
        except InputError as error:
            complaints += 1
            assert "\n" not in str(error)
    assert complaints > 50


def test_text_that_is_not_utf8_is_a_sentence(tmp_path):
    wrong = pa.array([b"good", b"caf\xe9"]).view(pa.string())
    parquet.write_table(pa.table({"id": ["a", "b"], "query": wrong}), tmp_path / "qa.parquet")
    assert "not UTF-8" in refused(tmp_path / "qa.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = columns(tmp_path / "qa.parquet", [{"id": "a", "query": "How?"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refused(path) == ': reading Parquet needs `pip install "accord[data]"`'


def test_a_data_set_may_be_of_several_formats(tmp_path):
    qa = columns(tmp_path / "qa.parquet", [{"id": 1, "query": "How?", "context_ids": ["p"]}])
    more = jsonl(tmp_path / "more.jsonl", [{"id": "2", "query": "Why?"}])
    passages = columns(tmp_path / "p.parquet", [{"id": "p", "text": "So."}])
    found = [{"id": "1", "original_id": "1", "passages": [{"id": "p", "score": 1.0}]}]
    contexts = columns(tmp_path / "c.parquet", found)
    made = [{"id": "v", "original_id": "1", "type": "t", "query": "How so?"}]
    variations = columns(tmp_path / "v.parquet", made)
    data = Data(qa=[qa, more], passages=passages, variations=variations, contexts=contexts)
    loaded = load_dataset(data, 0)
    assert [q.id for q in loaded.questions] == ["1", "2"]
    assert loaded.contexts[0].passages[0].id == "p" and loaded.variations[0].id == "v"
    twice = data.model_copy(update={"qa": (qa, qa)})
    with pytest.raises(InputError, match=r"qa\.parquet: id `1` occurs twice"):
        load_dataset(twice, 0)


def test_an_empty_table_is_refused_as_an_empty_file_is(tmp_path):
    empty = tmp_path / "qa.parquet"
    parquet.write_table(pa.table({"id": pa.array([], pa.string())}), empty)
    with pytest.raises(InputError, match=r"qa\.parquet: is empty"):
        load_dataset(Data(qa=[empty]), 0)


def test_a_query_log_may_be_parquet(tmp_path):
    path = columns(tmp_path / "log.parquet", [{"query": "How?"}, {"query": "Why?"}])
    assert [logged.query for logged in read_log(path)] == ["How?", "Why?"]
