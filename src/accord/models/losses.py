"""The training loss: L = L_CE + alpha * L_triplet (paper, section 3.2, equation 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100


def answer_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed next-token cross-entropy over the answer tokens.

    Args:
        logits: [N, A, V], the model's logits at the last A positions of each row.
        labels: [N, S] with S >= A; tokens that are no answer are -100. Rows are left-padded, so
            every answer lies within the last A - 1 positions.

    Returns:
        A scalar, summed in fp32; divide by the answer tokens of the whole global batch.
    """
    predicted = logits[:, :-1].float()  # position t predicts token t + 1
    target = labels[:, -predicted.shape[1] :]
    return F.cross_entropy(
        predicted.flatten(0, 1), target.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Summed triplet loss max(0, d(A,P) - d(A,N) + margin), d = squared L2 (equation 1).

    Args:
        anchor, positive, negative: [N, D], L2-normalised, so d lies in [0, 4].
        margin: the least difference wanted between the two distances.
    """
    near = (anchor - positive).square().sum(-1)
    far = (anchor - negative).square().sum(-1)
    return F.relu(near - far + margin).sum()


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """f: the mean of the last hidden states [N, S, D] over real tokens, L2-normalised, in fp32."""
    mask = attention_mask.unsqueeze(-1).float()
    mean = (hidden.float() * mask).sum(1) / mask.sum(1).clamp_min(1)
    return F.normalize(mean, dim=-1)


def pad_left(rows: list[list[int]], value: int) -> Tensor:
    """Stack rows of token ids [N, longest], padded on the left."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[value] * (longest - len(row)) + row for row in rows])
