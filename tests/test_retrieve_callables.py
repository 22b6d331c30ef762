"""Any Python callable as a retriever: functions, LangChain's and LlamaIndex' objects, bad ones."""

import sys
import textwrap
from itertools import count

import pytest

from accord.errors import InputError
from accord.records import Passage
from accord.retrieve.asking import ask
from accord.retrieve.callables import source
from accord.retrieve.received import Collection, Failure, clean

KNOWN = Collection([Passage(id=f"p{n}", text=f"text {n}") for n in range(5)])
numbers = count()


@pytest.fixture
def module(tmp_path):
    """module(code) -> (its name, its folder), not yet imported and forgotten afterwards."""
    names = []

    def write(code):
        names.append(f"own_search_{next(numbers)}")
        (tmp_path / f"{names[-1]}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        return names[-1], tmp_path

    yield write
    for name in names:
        sys.modules.pop(name, None)


def search(module_, attribute="find", queries=("a query",), k=3, **options):
    name, folder = module_
    options = {"callable": f"{name}:{attribute}", "folder": folder, **options}
    return list(ask("python", (), list(queries), k=k, options=options))


def ids(found, k=3):
    return [r.id for r in clean("q", found, k, KNOWN).passages]


def refused(*args, **options):
    with pytest.raises(InputError, match=r"^retrieve\.callable: ") as caught:
        search(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_function_of_the_query_is_called_for_each(module):
    code = "def find(query): return [query.split()[-1], 'p0']"
    found = search(module(code), queries=["show p1", "show p2"])
    assert [ids(one) for one in found] == [["p1", "p0"], ["p2", "p0"]]


@pytest.mark.parametrize(
    "parameters", ["query, k", "query, *, k", "query, k=99", "q, lang='en', *, k=2"]
)
def test_a_parameter_k_gets_k(module, parameters):
    code = f"def find({parameters}): return [f'p{{n}}' for n in range(k)]"
    assert ids(*search(module(code), k=2), k=9) == ["p0", "p1"]


def test_a_function_without_k_is_not_told(module):
    (found,) = search(module("def find(query, top=4): return [f'p{n}' for n in range(top)]"), k=2)
    assert len(found) == 4
    assert clean("q", found, 2, KNOWN).problems == ("beyond", "beyond")


def test_a_generator_without_end_and_a_callable_object_are_fine(module):
    code = """
        from itertools import cycle
        class Search:
            def __call__(self, query): return cycle(["p0", "p1", "p2", "p3"])
        find = Search()
        inside = Search()
        class Holder: find = inside
    """
    assert ids(*search(module(code))) == ["p0", "p1", "p2"]
    assert ids(*search(module(code), "Holder.find")) == ["p0", "p1", "p2"]


LANGCHAIN = """
    class Document:  # langchain_core.documents.Document has these fields
        def __init__(self, page_content, metadata, id=None):
            self.page_content, self.metadata, self.id = page_content, metadata, id
    class Retriever:
        def invoke(self, input, config=None, **kwargs):
            return [
                Document("text 1", {"source": "manual.pdf"}, "uuid-1"),
                Document("new words", {"id": "kb-7", "title": "T", "source": "kb.html"}),
                Document("more words", {"source": "kb.html"}),
            ]
    class Scored:
        def invoke(self, query): return [(d, 0.5) for d in Retriever().invoke(query)]
    find, scored = Retriever(), Scored()
"""


def test_a_langchain_retriever(module):
    own = module(LANGCHAIN)
    (found,) = search(own)
    got = clean("q", found, 3, KNOWN).passages
    assert [r.id for r in got[:2]] == ["p1", "kb-7"] and got[2].id.startswith("text-")
    assert (got[1].text, got[1].title) == ("new words", "T")
    (found,) = search(own, "scored")
    assert [r.score for r in clean("q", found, 3, KNOWN).passages] == [0.5] * 3


def test_the_id_may_be_another_field_of_the_metadata(module):
    (found,) = search(module(LANGCHAIN), id_field="source")
    got = clean("q", found, 3, KNOWN)
    # p1 by its text; both parts of one page keep their own texts
    assert [r.id for r in got.passages] == ["p1", "kb.html", "kb.html"]


def test_a_llamaindex_retriever(module):
    code = """
        class Node:
            def __init__(self, id_, text, score):
                self.node_id, self.score, self.metadata, self._text = id_, score, {}, text
            @property
            def text(self): raise ValueError("Node must be a TextNode to get text.")
            def get_content(self): return self._text
        class Retriever:
            def __call__(self, *args): raise NotImplementedError
            def retrieve(self, query): return [Node("p3", "text 3", None), Node("n9", "own", 0.25)]
        find = Retriever()
    """
    (found,) = search(module(code))
    first, second = clean("q", found, 3, KNOWN).passages
    assert (first.id, first.score) == ("p3", 1.0)
    assert (second.id, second.score, second.text) == ("n9", 0.25, "own")


def test_what_a_query_raises_is_its_failure_alone(module):
    code = """
        def find(query):
            if query == "late": raise TimeoutError("30 s")
            if query == "bad": raise KeyError("index")
            if query == "long": raise RuntimeError("first line\\nsecond line")
            if query == "midway": return ("p0" if n == 0 else 1 / 0 for n in range(3))
            if query == "html": return "<html></html>"
            if query == "mapping": return {"hits": []}
            if query == "number": return 7
            return None if query == "none" else ["p1"]
    """
    queries = ["late", "bad", "long", "midway", "html", "mapping", "number", "none", "good"]
    found = dict(zip(queries, search(module(code), queries=queries), strict=True))
    assert found["late"] == Failure("timed out")
    assert found["bad"] == Failure("raised KeyError: 'index'")
    assert found["long"] == Failure("raised RuntimeError: first line")
    assert found["midway"] == Failure("raised ZeroDivisionError: division by zero")
    assert found["html"] == Failure("gave a str, not a list")
    assert found["mapping"] == Failure("gave a dict, not a list")
    assert found["number"] == Failure("gave a int, not a list")
    assert found["none"] == [] and found["good"] == ["p1"]


def test_ctrl_c_is_no_failure_of_a_query(module):
    with pytest.raises(KeyboardInterrupt):
        search(module("def find(query): raise KeyboardInterrupt"))


@pytest.mark.parametrize("name", ["", "search", ":find", "search:", "search.find"])
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(InputError, match="`module:attribute` is wanted"):
        list(ask("python", (), ["q"], k=1, options={"callable": name}))


def test_a_module_that_is_not_there_names_where_it_was_looked_for(tmp_path):
    said = refused(("no_such_module_here", tmp_path))
    assert "no module `no_such_module_here`" in said and str(tmp_path) in said
    assert "retrieve.folder" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_package_at_all", "no_such_package_at_all"),
        ("1 / 0", "ZeroDivisionError"),
        ("def find(:", "SyntaxError"),
        ("def other(query): ...", "has no `find`"),
        ("def find(): ...", "cannot be called with a query"),
        ("def find(query, index): ...", "'index'"),
        ("async def find(query): ...", "a coroutine"),
        ("find = 3", "is a int"),
        ("class find:\n    def invoke(self, query): ...", "is a class"),
        ("find = object()", "LangChain"),
    ],
)
def test_what_cannot_be_called_is_one_sentence(module, code, said):
    assert said in refused(module(code))


def test_the_import_path_is_as_it_was(module):
    before = list(sys.path)
    search(module("def find(query): return []"))
    refused(module("1 / 0"))
    assert sys.path == before


def test_the_current_folder_is_looked_in(module, monkeypatch):
    name, folder = module("def find(query): return ['p1']")
    monkeypatch.chdir(folder)
    assert ids(*search((name, None))) == ["p1"]


def test_the_source_is_the_file_of_the_module(module, tmp_path):
    name, folder = module("def find(query): ...")
    assert source(f"{name}:find", folder) == folder / f"{name}.py"
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "inner.py").write_text("")
    assert source("pack.inner:f", tmp_path) == tmp_path / "pack" / "inner.py"
    assert source("pack:f", tmp_path) == tmp_path / "pack" / "__init__.py"
    assert source("numpy:array", tmp_path) is None
    assert source("", None) is None and source("../x:y", tmp_path) is None


def test_metadata_that_is_no_mapping_is_not_looked_into(module):
    code = "def find(query): return [{'id': 'p1', 'metadata': 'x'}]"
    assert ids(*search(module(code), id_field="source")) == ["p1"]


def test_rows_of_numpy_come_through_and_an_error_without_words_is_one(module):
    code = """
        import numpy as np
        class Mute(Exception):
            def __str__(self): raise RuntimeError
        def find(query): return list(zip(np.array([3, 1]), np.array([0.5, 0.25])))
        def fail(query): raise Mute
    """
    (found,) = search(module(code))
    known = Collection([Passage(id=str(n), text=f"text {n}") for n in range(5)])
    assert [r.id for r in clean("q", found, 3, known).passages] == ["3", "1"]
    assert search(module(code), "fail") == [Failure("raised Mute")]
