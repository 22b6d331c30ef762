"""The parts of the training loss, as mathematics: L = L_CE + alpha * L_2 (paper, section 3.2).

Everything is summed or given for each example, never averaged: who calls divides by the answer
tokens, or the examples, of the whole global batch. All of it is computed in fp32 (float64 stays).
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
CHUNK = 64  # rows of logits that are looked at in fp32 at once

Distance = Literal["squared_l2", "l2", "cosine"]
Divergence = Literal["js", "kl"]
Pool = Literal["mean", "last"]


class _CrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    """Summed cross-entropy that keeps no copy of the logits in fp32.

    torch's own holds the logits in fp32, their log-softmax and its gradient: with a vocabulary of
    262,144 a megabyte each for every answer token. This holds the logits as they came, and one
    gradient of their type, or writes the gradient over them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, overwrite: bool) -> Tensor:
        total = logits.new_zeros((), dtype=_wide(logits))
        norms = []
        for part, wanted in zip(logits.split(CHUNK), target.split(CHUNK), strict=True):
            part = part.to(total.dtype)
            norm = part.logsumexp(-1)
            own = part.gather(-1, wanted.clamp_min(0).unsqueeze(-1)).squeeze(-1)
            total += (norm - own)[wanted != IGNORED].sum()
            norms.append(norm)
        ctx.save_for_backward(logits, target, torch.cat(norms))
        ctx.overwrite = overwrite
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits, target, norms = ctx.saved_tensors
        # In place torch counts a version: whoever kept the logits for a backward of its own is
        # stopped by an error, and gets no wrong gradient.
        out = logits if ctx.overwrite else torch.empty_like(logits)
        for start in range(0, len(logits), CHUNK):
            rows = slice(start, start + CHUNK)
            wanted = target[rows].unsqueeze(-1)
            # softmax - onehot
            part = (logits[rows].to(norms.dtype) - norms[rows].unsqueeze(-1)).exp_()
            part.scatter_add_(-1, wanted.clamp_min(0), torch.full_like(part[:, :1], -1.0))
            out[rows] = part.mul_(grads[0] * (wanted != IGNORED))
        return out, None, None


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def answer_cross_entropy(logits: Tensor, target: Tensor, *, overwrite: bool = False) -> Tensor:
    """Summed cross-entropy over answer tokens.

    Args:
        logits: [n, V], each of the position before its answer token.
        target: [n], the answer tokens; -100 is left out.
        overwrite: the backward pass, of which there is one, may write over the logits.

    Returns:
        A scalar in fp32; divide by the answer tokens of the whole global batch.
    """
    if not len(logits):
        return logits.sum().to(_wide(logits))
    total: Tensor = _CrossEntropy.apply(logits, target, overwrite)
    return total


def distance(one: Tensor, other: Tensor, kind: Distance = "squared_l2") -> Tensor:
    """d of two batches of vectors [N, D]: [N]. For unit vectors squared_l2 = 2 * cosine."""
    if kind == "cosine":
        return 1 - F.cosine_similarity(one, other, dim=-1)
    squared = (one - other).square().sum(-1)
    # The root of 0 has no gradient.
    return squared if kind == "squared_l2" else squared.clamp_min(1e-12).sqrt()


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    kind: Distance = "squared_l2",
) -> Tensor:
    """max(0, d(A,P) - d(A,N) + margin) of each example: [N] (paper, equation 1).

    Args:
        anchor, positive, negative: [N, D].
        margin: the least difference wanted between the two distances.
        kind: d.
    """
    near = distance(anchor, positive, kind)
    far = distance(anchor, negative, kind)
    return F.relu(near - far + margin)


def hardest(anchor: Tensor, others: Tensor, apart: Tensor, kind: Distance = "squared_l2") -> Tensor:
    """For each anchor the nearest of `others` that may be its negative: rows of `others`, [N].

    Args:
        anchor: [N, D].
        others: [M, D].
        apart: [N, M], true where the other asks something else; true somewhere in every row.
    """
    with torch.no_grad():
        far = torch.stack([distance(a.expand_as(others), others, kind) for a in anchor])
        return far.masked_fill(~apart, torch.inf).argmin(-1)


def divergence(first: Tensor, second: Tensor, kind: Divergence = "js") -> Tensor:
    """Symmetric divergence of the next-token distributions of two sets of logits [n, V]: [n].

    `kl`: (KL(p||q) + KL(q||p)) / 2; `js`: Jensen-Shannon, at most log 2 (PPCL, arXiv 2402.15833).
    """
    p, q = (F.log_softmax(logits.to(_wide(logits)), dim=-1) for logits in (first, second))
    if kind == "kl":
        return ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=p.dtype))
    return ((p.exp() * (p - middle)) + (q.exp() * (q - middle))).sum(-1) / 2


def embed(hidden: Tensor, owner: Tensor, count: int, pool: Pool, *, normalize: bool) -> Tensor:
    """f: one vector for each sequence from the hidden states of its tokens, in fp32: [count, D].

    Args:
        hidden: [n, D], the tokens of all sequences, each sequence's in order.
        owner: [n], ascending: the sequence of each token; every sequence has one at least.
        pool: the mean over its tokens, or its last one.
        normalize: to unit length.
    """
    hidden = hidden.to(_wide(hidden))
    lengths = torch.bincount(owner, minlength=count)
    if pool == "last":
        vectors = hidden[lengths.cumsum(0) - 1]
    else:
        sums = hidden.new_zeros(count, hidden.shape[-1]).index_add(0, owner, hidden)
        vectors = sums / lengths.unsqueeze(-1)
    return F.normalize(vectors, dim=-1) if normalize else vectors
