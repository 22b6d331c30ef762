import pytest
from conftest import CHATML, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError
from accord.models.prompt import Prompter
from accord.records import Passage, Wording
from accord.train.examples import tokenize

QUERY = "How do I close an account?"
INSTRUCTION = "Answer the question from the passages"
PASSAGES = [
    Passage(id="p1", title="Closing", text="Open the avatar menu and choose My account first."),
    Passage(id="p2", text="Only the owner can close a workspace; everyone loses access at once."),
    Passage(id="p3", title="Billing", text="Invoices are kept for thirty days after the closure."),
]
BUDGET = 10_000
CHAT, PLAIN = Prompter(make_tokenizer()), Prompter(make_tokenizer(chat_template=None))


def text_of(prompter, prompt):
    return prompter.tokenizer.decode(prompt.ids)


def build(prompter, budget=BUDGET, passages=PASSAGES, query=QUERY):
    return prompter.build("q1", query, passages, budget)


def test_passages_come_first_in_order_and_the_question_last():
    text = text_of(CHAT, build(CHAT))
    parts = [INSTRUCTION, "Closing: Open", PASSAGES[1].text, "Billing: ", f"Question: {QUERY}"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.startswith("<|im_start|>user\nAnswer")
    assert text.endswith(f"Question: {QUERY}<|im_end|>\n<|im_start|>assistant\n")
    assert "None" not in text


def test_without_a_chat_template_the_prompt_is_plain_text_that_ends_in_answer():
    prompt = build(PLAIN)
    text = text_of(PLAIN, prompt)
    assert text.startswith(INSTRUCTION) and text.endswith(f"Question: {QUERY}\nAnswer:")
    assert "<|" not in text and not PLAIN.has_chat_template
    answer = PLAIN.answer_ids("Open it.")
    assert PLAIN.tokenizer.decode(answer) == " Open it.<|endoftext|>"


def test_a_plain_prompt_gets_the_tokenizers_first_token_once_and_a_chat_prompt_none_more():
    from tokenizers.processors import TemplateProcessing

    for template, wanted in ((None, 1), (CHATML, 0), ("<|endoftext|>" + CHATML, 1)):
        tokenizer = make_tokenizer(chat_template=template)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
        prompter = Prompter(tokenizer)
        assert build(prompter).ids.count(0) == wanted
        assert 0 not in prompter.answer_ids("Open it.")[:-1]


def kept_words(text, passage):
    """How many of a passage's words the prompt still has, from its first one on."""
    words = passage.text.split()
    return max(n for n in range(len(words) + 1) if n == 0 or " ".join(words[:n]) in text)


@pytest.mark.parametrize("prompter", [CHAT, PLAIN])
def test_the_cut_at_every_budget(prompter):
    whole = build(prompter)
    bare = build(prompter, passages=[])
    assert not whole.cut and not bare.cut
    previous = None
    for budget in range(len(whole.ids) + 2, len(bare.ids) - 1, -1):
        prompt = build(prompter, budget)
        text = text_of(prompter, prompt)
        assert len(prompt.ids) <= budget
        assert prompt.cut == (budget < len(whole.ids))
        assert INSTRUCTION in text and f"Question: {QUERY}" in text
        kept = [kept_words(text, p) for p in PASSAGES]
        full = [len(p.text.split()) for p in PASSAGES]
        for i in range(2):  # nothing of a later passage stays where an earlier one was cut
            assert kept[i] == full[i] or kept[i + 1] == 0
        assert previous is None or sum(kept) <= sum(previous)
        previous = kept
    with pytest.raises(InputError, match=r"`q1`: instruction and question alone take \d+ tokens"):
        build(prompter, len(bare.ids) - 1)


def test_a_cut_wastes_little():
    """At most a few words' worth of tokens stays free: a passage is shortened, not thrown out."""
    whole = build(CHAT)
    for budget in range(len(build(CHAT, passages=PASSAGES[:1]).ids) + 12, len(whole.ids)):
        assert budget - len(build(CHAT, budget).ids) <= 20


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=80).filter(str.strip), max_size=4),
    st.text(min_size=1, max_size=30).filter(str.strip),
    st.integers(0, 400),
)
def test_any_text_fits_the_budget_or_is_refused(texts, query, budget):
    passages = [Passage(id=str(i), text=text) for i, text in enumerate(texts)]
    try:
        prompt = CHAT.build("q7", query, passages, budget)
    except InputError as error:
        assert "`q7`" in str(error)
        assert len(CHAT.build("q7", query, [], 10**6).ids) > budget
    else:
        assert len(prompt.ids) <= budget
        assert prompt == CHAT.build("q7", query, passages, budget)


def test_one_endless_word_is_cut_too():
    endless = Passage(id="p", text="x1y" * 400)
    assert len(build(CHAT, 100, [PASSAGES[0], endless]).ids) <= 100


LLAMA_LIKE = CHATML.replace("<|im_end|>", "<|endoftext|>")
NO_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
SPACED = CHATML.replace("<|im_end|>", " <|im_end|>")
TRIMMED = CHATML.replace("m['content']", "m['content'] | trim")
STRICT = (
    "{% for m in messages %}{% if m['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('only user and assistant') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (LLAMA_LIKE, "<|endoftext|>"),
        (SPACED, "<|im_end|>"),
        (TRIMMED, "<|im_end|>"),
        (STRICT, "<|im_end|>"),
        (NO_END, "<|endoftext|>"),
        (None, "<|endoftext|>"),
    ],
)
def test_the_end_of_an_answer_is_what_the_template_puts_after_it(template, end):
    prompter = Prompter(make_tokenizer(chat_template=template))
    assert prompter.tokenizer.convert_ids_to_tokens(prompter.end) == end
    assert prompter.answer_ids("Open it.")[-1] == prompter.end
    assert len(build(prompter).ids) > 20


def test_prompt_and_answer_are_the_chat_that_the_template_writes():
    """Training sees the tokens of a whole chat, up to the newline after the last turn."""
    turns = [
        {"role": "user", "content": text_of(CHAT, build(CHAT)).split("\n", 1)[1].split("<|")[0]},
        {"role": "assistant", "content": "Open the menu."},
    ]
    text = CHAT.tokenizer.apply_chat_template(turns, tokenize=False)
    whole = CHAT.tokenizer(text, add_special_tokens=False)["input_ids"]
    got = [*build(CHAT).ids, *CHAT.answer_ids("Open the menu.")]
    assert got == whole[: len(got)]
    assert CHAT.tokenizer.decode(whole[len(got) :]) == "\n"


def test_a_chat_template_that_refuses_is_an_input_error():
    refusing = "{{ raise_exception('no user turns here') }}"
    with pytest.raises(InputError, match=r"chat template cannot be rendered.*no user turns here"):
        Prompter(make_tokenizer(chat_template=refusing))


def test_a_tokenizer_that_cannot_end_is_refused():
    with pytest.raises(InputError, match="no end-of-text token"):
        Prompter(make_tokenizer(chat_template=None, eos_token=None))


def with_template(tmp_path, text):
    path = tmp_path / "mine.jinja"
    path.write_text(text, encoding="utf-8")
    return Prompter(make_tokenizer(), path)


def test_a_template_of_the_users_is_used(tmp_path):
    prompter = with_template(
        tmp_path, "{% for p in passages %}[{{ p.id }}] {{ p.text }}\n{% endfor %}Frage: {{ query }}"
    )
    text = text_of(prompter, build(prompter))
    assert "[p1] Open" in text and f"Frage: {QUERY}" in text and INSTRUCTION not in text


def test_a_missing_template_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"prompt\.template: .*none\.jinja cannot be read"):
        Prompter(make_tokenizer(), tmp_path / "none.jinja")
    (tmp_path / "latin.jinja").write_bytes(b"caf\xe9 {{ query }}")
    with pytest.raises(InputError, match=r"latin\.jinja cannot be read"):
        Prompter(make_tokenizer(), tmp_path / "latin.jinja")


def test_a_syntax_error_is_an_input_error_that_names_the_file(tmp_path):
    with pytest.raises(InputError, match=r"prompt\.template: .*mine\.jinja: "):
        with_template(tmp_path, "{% for p in passages %}{{ query }}")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ qeury }}", "qeury"),
        ("{{ passages[0].txet }}", "txet"),
        ("{{ ''.__class__.__mro__ }}", "__class__.*unsafe"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ query.__init__.__globals__ }}", "unsafe"),
        ("{{ passages[0].__class__ }}", "unsafe"),
        ("{{ passages.append(1) }}", "append|not safely callable"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "."),
        ("{{ 1 / 0 }}", "division"),
        ("{{ query + 1 }}", "concatenate|str"),
        ("{% for i in range(1000000000) %}{% endfor %}", "[Rr]ange"),
        ("{{ query | round }}", "."),
        ("{{ query.format(**1) }}", "."),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ '{0.__class__}'.format(query) }}", "__class__|unsafe"),
    ],
)
def test_a_template_that_fails_or_attacks_is_an_input_error(template, said, tmp_path):
    with pytest.raises(InputError, match=rf"(?s)prompt\.template: .*({said})"):
        build(with_template(tmp_path, template))


def test_a_template_cannot_run_code_through_a_passage(tmp_path):
    """pydantic models still carry `parse_raw`, which unpickles, and `parse_file`."""
    mark = tmp_path / "mark"
    pickled = f"cos\\nmkdir\\n(V{mark}\\ntR."
    attack = f"passages[0].parse_raw('{pickled}', proto='pickle', allow_pickle=True)"
    with pytest.raises(InputError, match="parse_raw"):
        build(with_template(tmp_path, "{{ " + attack + " }}"))
    assert not mark.exists()


def wording(query=QUERY, answer="Open the menu."):
    return Wording(id="q1", original_id="q1", type=None, query=query, split="train", answer=answer)


def test_an_example_holds_the_prompt_that_generation_will_see():
    for window, reserve in ((900, 40), (160, 40)):
        example = tokenize(
            CHAT, wording(), PASSAGES, window=window, max_prompt=None, reserve=reserve
        )
        prompt = build(CHAT, window - reserve)
        assert (example.prompt, example.cut) == (prompt.ids, prompt.cut)
        assert len(example.prompt) + len(example.answer) <= window
        assert example.answer == CHAT.answer_ids("Open the menu.")
        assert CHAT.tokenizer.decode(example.query) == QUERY


def test_a_long_reference_leaves_room_for_the_question():
    long = wording(answer="Open the avatar menu and save. " * 8)
    example = tokenize(CHAT, long, PASSAGES, window=240, max_prompt=None, reserve=10)
    assert example.cut
    assert len(example.prompt) + len(example.answer) <= 240
    narrow = tokenize(CHAT, wording(), PASSAGES, window=900, max_prompt=120, reserve=10)
    assert len(narrow.prompt) <= 120 and narrow.cut
