"""Decoding with shared prefixes, against transformers' own `generate` on one prompt at a time."""

import pytest
import torch
from conftest import LLAMA_LIKE, tiny_model
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accord.generate import plain, shared_prefix
from accord.generate.memory import Batch
from accord.generate.shared_prefix import can_share, decode
from accord.generate.tree import TOKENS_AT_ONCE, lay_out, trunk_of

FAMILIES = ["llama", "gpt2", "gemma3", "qwen2", "qwen3"]
NONE = frozenset({-1})


def prompts(sizes, trunk=20, seed=0):
    """Groups of prompts with a common beginning, of random lengths."""
    random = torch.Generator().manual_seed(seed)

    def draw(length):
        return torch.randint(3, 500, (length,), generator=random).tolist()

    groups = []
    for number, size in enumerate(sizes):
        start = draw(trunk + 3 * number)
        groups.append([[*start, *draw(1 + (5 * i + number) % 11)] for i in range(size)])
    return groups


def one_by_one(model, groups, new, ends=NONE):
    flat = [prompt for group in groups for prompt in group]
    return [
        plain.decode(model, [p], new, ends=frozenset(ends - NONE or {499}), pad=0)[0] for p in flat
    ]


def untied(family, **overrides):
    return tiny_model(family, tie_word_embeddings=False, **overrides)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sizes", [(4, 4), (1,), (3, 1, 5), (1, 1, 1)])
def test_the_answers_are_those_of_each_prompt_alone(family, sizes):
    model = untied(family)
    groups = prompts(sizes)
    ends = frozenset({499, 498})
    got = decode(model, groups, max_new_tokens=40, ends=ends)
    assert got == one_by_one(model, groups, 40, ends)
    assert len({tuple(said.tokens) for said in got}) == sum(sizes)


def test_a_sliding_window_is_kept_over_trunk_and_branch():
    """The window of 8 ends within the trunk, then within the branch, then within the answer."""
    model = untied("gemma3")
    assert {"sliding_attention", "full_attention"} >= set(model.config.layer_types)
    assert "sliding_attention" in model.config.layer_types
    groups = prompts((3, 2), trunk=12)
    assert decode(model, groups, max_new_tokens=30, ends=NONE) == one_by_one(model, groups, 30)
    wide = untied("gemma3", sliding_window=64)
    assert decode(wide, groups, max_new_tokens=30, ends=NONE) != one_by_one(model, groups, 30)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    trunk=st.integers(0, 30),
    ends=st.sets(st.integers(3, 499), min_size=1, max_size=200),
    new=st.integers(1, 45),
)
@example(sizes=[1], trunk=0, ends={3}, new=2)  # a prompt of one token has no trunk
@example(sizes=[2, 1], trunk=0, ends={3}, new=40)
def test_any_groups_any_ends_any_lengths(sizes, trunk, ends, new):
    """Many ends: prompts finish at different steps and are dropped while others go on."""
    model = _llama()
    groups = prompts(sizes, trunk, seed=len(ends))
    got = decode(model, groups, max_new_tokens=new, ends=frozenset(ends))
    assert got == one_by_one(model, groups, new, ends)


def _llama(cache={}):  # noqa: B006 - made once
    return cache.setdefault("model", untied("llama"))


def test_logits_are_those_of_the_plain_model_to_rounding():
    model = untied("llama").double()
    groups = prompts((3, 2))
    batch = Batch(groups)
    with torch.inference_mode(), shared_prefix._attending(model, batch):
        read = shared_prefix._read_all(model, batch)
        said = dict(enumerate(read.argmax(-1).tolist()))
        written = shared_prefix._write_all(model, batch, said, batch.rows)
    for row, prompt in enumerate(p for group in groups for p in group):
        longer = [*prompt, int(read[row].argmax())]
        with torch.inference_mode():
            own = model(input_ids=torch.tensor([longer])).logits[0]
        # The softmax is taken in float32 whatever the model.
        torch.testing.assert_close(read[row], own[-2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(written[row], own[-1], atol=1e-5, rtol=1e-5)


def test_the_attention_of_the_model_is_put_back():
    model = _llama()
    usual = model.config._attn_implementation
    decode(model, prompts((2,)), max_new_tokens=2, ends=NONE)
    assert model.config._attn_implementation == usual
    with pytest.raises(RuntimeError), shared_prefix._attending(model, Batch(prompts((2,)))):
        raise RuntimeError
    assert model.config._attn_implementation == usual and not shared_prefix._attended


@pytest.mark.parametrize("family", FAMILIES)
def test_these_families_share(family):
    assert can_share(untied(family))
    assert can_share(untied(family).bfloat16())


def from_config(config):
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


def others():
    import transformers as hf

    shape = LLAMA_LIKE | {"vocab_size": 500, "pad_token_id": 0, "initializer_range": 0.15}
    return {
        "soft caps": hf.Gemma2Config(**shape, attn_logit_softcapping=5.0),
        "no attention": hf.MambaConfig(
            vocab_size=500, hidden_size=32, num_hidden_layers=2, state_size=4
        ),
        "biased scores": hf.BloomConfig(vocab_size=500, hidden_size=32, n_layer=2, n_head=4),
    }


@pytest.mark.parametrize("kind", ["soft caps", "no attention", "biased scores"])
def test_other_kinds_of_attention_are_recognised(kind):
    assert not can_share(from_config(others()[kind]))


def test_an_attention_that_forgets_its_prefix_is_recognised(monkeypatch):
    """The trial must be able to fail: here the trunk is hidden from the second token on."""
    hidden = Batch.hidden

    def blind(self, like, window, columns):
        trunk, branch = hidden(self, like, window, columns)
        return torch.full_like(trunk, -1e9), branch

    monkeypatch.setattr(Batch, "hidden", blind)
    assert not can_share(_llama())


@given(group=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_trunk_is_the_longest_beginning_that_leaves_each_a_token(group):
    trunk = trunk_of(group)
    assert all(prompt[:trunk] == group[0][:trunk] for prompt in group)
    longer = {tuple(prompt[: trunk + 1]) for prompt in group}
    assert len(longer) > 1 or trunk == min(map(len, group)) - 1


def test_parts_hold_every_tree_once_and_no_more_tokens_than_they_may():
    groups = prompts((4,) * 40, trunk=300)
    trunks = [trunk_of(group) for group in groups]
    parts = lay_out(groups, trunks)
    assert [tree.group for part in parts for tree in part.trees] == list(range(40))
    assert all(len(part.ids) <= TOKENS_AT_ONCE for part in parts) and len(parts) > 1
    flat = [prompt for group in groups for prompt in group]
    ends = [part.ids[i] for part in parts for i in part.last]
    assert ends == [prompt[-1] for prompt in flat]
    rows = [row for part in parts for tree in part.trees for row, _ in tree.branches]
    assert rows == list(range(160))
    long = [[list(range(TOKENS_AT_ONCE + 5))]]
    assert len(lay_out(long, [TOKENS_AT_ONCE])) == 1


def test_who_sees_whom_in_a_tree():
    (part,) = lay_out([[[1, 2, 3, 4], [1, 2, 5]]], [2])
    (tree,) = part.trees
    assert part.ids == [1, 2, 3, 4, 5] and part.positions == [0, 1, 2, 3, 2]
    assert tree.seen(None).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert tree.seen(2).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 1, 0, 0, 1],
    ]
