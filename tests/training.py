"""Small examples, and the losses computed in plain torch: one row at a time, no padding."""

import json

import numpy as np
import torch
import torch.nn.functional as F

from accord import config
from accord.progress import SILENT
from accord.train.arguments import Recipe
from accord.train.examples import Example, Examples
from accord.train.fit import fit
from accord.train.losses import needs
from accord.train.neighbours import Neighbours

PAD = 0
SETTINGS = config.Train(
    epochs=1,
    learning_rate=1e-3,
    warmup=0.0,
    batch_size=8,
    micro_batch_size=8,
    precision="fp32",
)


def make_examples(count, *, loss="triplet", seed=0, wordings=2, longest=24):
    """Examples of very different lengths, `wordings` of a question; neighbours are other rows."""
    g = torch.Generator().manual_seed(seed)

    def ids(low, high):
        length = int(torch.randint(low, high + 1, (1,), generator=g))
        return tuple(torch.randint(3, 500, (length,), generator=g).tolist())

    rows = []
    for i in range(count):
        answer = ids(1, 9) if i % wordings == 0 else rows[-1].answer
        rows.append(
            Example(f"q{i}", ids(3, longest), answer, ids(2, 12), False, f"o{i // wordings}")
        )
    others = [[(i + k) % count for k in range(1, count)] for i in range(count)]

    def ten(of):
        return np.array([(o[:10] + [-1] * 10)[:10] for o in of], dtype=np.int32)

    near = Neighbours(ten(others), ten([o[::-1] for o in others]))
    triplets = needs(loss) == "triplets"
    return Examples(rows, needs=needs(loss), neighbours=near if triplets else None, seed=seed)


def answer_losses(model, prompt, answer):
    """(log-probabilities of all tokens [A, V], summed cross-entropy) of an answer."""
    logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0]
    own = F.log_softmax(logits[len(prompt) - 1 : -1], -1)
    return own, F.nll_loss(own, torch.tensor(answer), reduction="sum")


def embedding(model, ids, pool="mean"):
    """f: the mean (or the last) of what goes into the head, L2-normalised."""
    seen = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(input_ids=torch.tensor([ids]))
    handle.remove()
    vector = seen[0][0].mean(0) if pool == "mean" else seen[0][0][-1]
    return vector / vector.norm()


def plain_loss(model, data, rows, *, loss="triplet", alpha=0.7, margin=0.5, divergence="js"):
    """The loss of one global batch of examples in plain torch."""
    ce = tokens = second = 0
    for row in rows:
        example = data.examples[row]
        own, nll = answer_losses(model, example.prompt, example.answer)
        ce, tokens = ce + nll, tokens + len(example.answer)
        if loss == "triplet":
            near, far = data.draw(row)
            a, p, n = (embedding(model, data.examples[i].query) for i in (row, near, far))
            second = second + F.relu((a - p).pow(2).sum() - (a - n).pow(2).sum() + margin)
        elif loss == "pair" and (partner := data.partner(row)) is not None:
            other, _ = answer_losses(model, partner.prompt, example.answer)
            p, q = own.exp(), other.exp()
            m = (p + q) / 2
            if divergence == "js":
                each = (p * (p / m).log() + q * (q / m).log()).sum(-1) / 2
            else:
                each = (p * (p / q).log() + q * (q / p).log()).sum(-1) / 2
            second = second + each.mean()
    return ce / tokens + alpha * second / len(rows)


def run_fit(model, data, folder, *, loss="triplet", progress=SILENT, select=None, **changes):
    """Fine-tune in place; returns the model's weights."""
    options = {k: changes.pop(k) for k in ("alpha", "margin", "reads", "pool") if k in changes}
    seed, steps = changes.pop("seed", 0), changes.pop("steps", None)
    settings = config.Train.model_validate(SETTINGS.model_dump() | {"loss": loss} | changes)
    folder.mkdir(exist_ok=True)
    recipe = Recipe("SEM", settings, loss, options, seed, steps)
    fit(model, data, recipe, pad=PAD, folder=folder, select=select, progress=progress)
    return model.state_dict()


def log_of(folder, *, timed=False):
    """The log of a fit, without what differs from run to run."""
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in entry.items() if timed or k != "tokens_per_second"} for entry in entries
    ]


def assert_same_weights(one, two, **tolerance):
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], **({"rtol": 0, "atol": 0} | tolerance))
