"""The HF Trainer with the losses of this project.

Unusual: a batch holds token ids, and what the model is asked about them is the loss's affair
(`views`); logits are formed for answer tokens only; both terms are normalised over the whole global
batch, cross-entropy by its answer tokens, the second term by its examples, so neither accumulation
nor the number of processes changes the loss. Batches are planned (`batches`), never sampled.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer

from accord.models.base import CausalLM
from accord.models.losses import IGNORED, answer_cross_entropy
from accord.models.reading import answer_logits, can_pack, head_of, last_states
from accord.train import checkpoints
from accord.train.batches import Batches, Sizes, how_often
from accord.train.examples import Batch, Example, Examples
from accord.train.losses import second_term
from accord.train.views import Ids, Pairs, Read, Triplets

BLANK = Example("", (0,), (0,), (0,), False)
"""What a process reads where a last batch has nothing for it: all must take part in each pass."""


class ConsistencyTrainer(Trainer):  # type: ignore[misc]
    """L = L_CE + alpha * L_2 (paper, section 3.2, equation 1), L_2 by the name of the loss.

    `parts` holds the terms of the last step as they enter the loss, this process's share of them;
    `names` the examples it was made of.
    """

    control: Any

    def __init__(
        self,
        *,
        model: CausalLM,
        train_dataset: Examples,
        loss: str,
        options: Mapping[str, Any],
        pad: int,
        batch_size: int,
        name: str = "model",
        eval_dataset: Examples | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model=model, train_dataset=train_dataset, eval_dataset=eval_dataset, **kwargs
        )
        self.loss, self.options, self.pad, self.batch_size = loss, dict(options), pad, batch_size
        # compute_loss divides by the global batch itself, so the Trainer must not divide again.
        self.loss_is_scaled_for_ga = True
        self.head = head_of(model, name)
        self.reads = self.options.get("reads", "query")
        # What is spread over processes cannot be tried here ...
        whole = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        triplets = train_dataset.needs == "triplets"
        self.packed = triplets and whole and can_pack(model, self.head, pad)
        # ... and several processes must hear of all that is used through the model's outputs.
        self.past_head = whole and self.args.world_size == 1
        self.plan = self._plan(train_dataset)
        self.writing: Path | None = None
        self.grad_norm = float("nan")
        self._anew()

    def _anew(self) -> None:
        """Forget the last step."""
        self.parts: dict[str, float] = {"ce": 0.0}
        self.names: list[str] = []
        self.tokens = 0

    def _plan(self, data: Examples) -> Batches:
        args = self.args
        sizes = Sizes(
            self.batch_size, args.per_device_train_batch_size, args.world_size, args.process_index
        )
        lengths = [len(e.prompt) + len(e.answer) for e in data.examples]
        seconds = [3 * len(getattr(e, self.reads)) for e in data.examples]
        return Batches(
            lengths,
            [len(e.answer) for e in data.examples],
            sizes,
            seed=data.seed,
            every=how_often(lengths, seconds, sizes.steps),
        )

    def get_train_dataloader(self) -> Any:
        """The planned micro-batches of this process."""
        return _loader(self.train_dataset, self.plan)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """One step begins."""
        self._anew()
        return super().get_batch_samples(*args, **kwargs)

    def compute_loss(
        self,
        model: CausalLM,
        inputs: dict[str, Batch],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This micro-batch's share of the loss of the global batch."""
        # One autocast around both passes: each weight is then cast to bf16 once, not twice.
        with self.accelerator.autocast():
            ce, second = self._terms(model, inputs["batch"])
        self.parts["ce"] += float(ce.detach())
        if second is not None:
            self.parts[self.loss] = self.parts.get(self.loss, 0.0) + float(second.detach())
        # Under data parallelism gradients are averaged over processes; undo it for a sum.
        loss = (ce if second is None else ce + second) * self.args.world_size
        return (loss, {}) if return_outputs else loss

    def _terms(self, model: CausalLM, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(cross-entropy, second term) as they enter the loss of the global batch."""
        examples = batch.examples or (BLANK,)
        partners = [(n, p) for n, p in enumerate(batch.partners) if p is not None]
        # The partner of a pair is asked for the same answer after its own prompt.
        rows = [(*e.prompt, *e.answer) for e in examples]
        rows += [(*p.prompt, *examples[n].answer) for n, p in partners]
        answers = [len(e.answer) for e in examples]
        lengths = [*answers, *(answers[n] for n, _ in partners)]
        logits = answer_logits(model, self.head, rows, lengths, pad=self.pad)
        own = logits[: sum(answers)] if partners else logits  # a slice costs a copy
        target = torch.tensor([token for e in examples for token in e.answer], device=own.device)
        if not batch.examples:
            target = torch.full_like(target, IGNORED)
        alone = self.train_dataset.needs != "pairs"  # nothing else looks at the logits
        ce = answer_cross_entropy(own, target, overwrite=alone) / batch.tokens
        if batch.examples:
            self.names += [e.name for e in batch.examples]
            self.tokens += sum(map(len, rows))
        views: dict[str, Any] = {}
        if batch.branches is not None:
            views["triplets"] = Triplets(_some(batch.branches), self._read(model))
            read = [getattr(one, self.reads) for branch in batch.branches for one in branch]
            self.tokens += sum(map(len, read))
        elif self.train_dataset.needs == "pairs":
            views["pairs"] = _pairs(own, logits[sum(answers) :], answers, [n for n, _ in partners])
        if not views:
            return ce, None
        values = second_term(self.loss, self.options, views)
        assert values is not None
        # A blank example weighs nothing.
        present = len(batch.branches[0]) if batch.branches is not None else len(batch.examples)
        return ce, values[:present].sum() / batch.count

    def _read(self, model: CausalLM) -> Read:
        """How the triplets get at hidden states."""

        def read(rows: Sequence[Ids]) -> tuple[Tensor, Tensor]:
            head = self.head if self.past_head else None
            where = self.args.device
            return last_states(model, head, rows, pad=self.pad, packed=self.packed, where=where)

        return read

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Cross-entropy of an answer token of the evaluation examples, as `eval_loss`."""
        data, sizes = self.eval_dataset, self.plan.sizes
        lengths = [len(e.prompt) + len(e.answer) for e in data.examples]
        plan = Batches(lengths, [len(e.answer) for e in data.examples], sizes, seed=0)
        self.model_wrapped.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        with torch.no_grad(), self.accelerator.autocast():
            for inputs in _loader(data, plan):
                ce, _ = self._terms(self.model_wrapped, inputs["batch"])
                total += ce.double() * inputs["batch"].tokens
        self._anew()
        total = self.accelerator.reduce(total, "sum")
        answered = sum(len(e.answer) for e in data.examples)
        metrics = {"eval_loss": float(total) / answered}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def summed(self) -> dict[str, float]:
        """The terms of the last step and its tokens, over all processes."""
        values = [*self.parts.values(), float(self.tokens)]
        mine = torch.tensor(values, dtype=torch.float64, device=self.args.device)
        everyone = self.accelerator.reduce(mine, "sum").tolist()
        return dict(zip([*self.parts, "tokens"], everyone, strict=True))

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the model's estimate wants tensors."""
        return 0

    def _get_grad_norm(self, model: CausalLM, grad_norm: Any = None) -> Any:
        found = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.grad_norm = float(found)
        return found

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.writing or self.args.output_dir)

    def _save_checkpoint(self, model: CausalLM, trial: Any) -> None:
        """Aside, then renamed; the checkpoint before it and the best one stay until then."""
        folder = Path(self.args.output_dir)
        name = f"{checkpoints.PREFIX}{self.state.global_step}"
        self.writing = folder / checkpoints.ASIDE
        super()._save_checkpoint(model, trial)
        self.writing = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.complete(folder / checkpoints.ASIDE / name, folder / name)
            checkpoints.prune(folder, {self.state.global_step, self.state.best_global_step or 0})
        self.accelerator.wait_for_everyone()

    def load_best(self) -> None:
        """Take the weights of the best evaluation, if they are not the last ones."""
        step = self.state.best_global_step
        if step and step != self.state.global_step:
            best = Path(self.args.output_dir) / f"{checkpoints.PREFIX}{step}"
            self.state.best_model_checkpoint = str(best)
            self._load_best_model()


def _loader(data: Examples, plan: Batches) -> Any:
    return DataLoader(data, batch_sampler=plan, collate_fn=_wrapped)


def _wrapped(batch: Batch) -> dict[str, Batch]:
    return {"batch": batch}


def _some(branches: tuple[tuple[Example, ...], ...]) -> tuple[tuple[Example, ...], ...]:
    return branches if branches[0] else ((BLANK,), (BLANK,), (BLANK,))


def _pairs(own: Tensor, second: Tensor, answers: Sequence[int], paired: Sequence[int]) -> Pairs:
    """The logits of those examples that have a partner, against the partners'."""
    lengths = torch.tensor(answers, device=own.device)
    owner = torch.arange(len(answers), device=own.device).repeat_interleave(lengths)
    chosen = torch.isin(owner, torch.tensor(paired, device=own.device, dtype=owner.dtype))
    first = own if len(paired) == len(answers) else own[chosen]
    return Pairs(first, second, owner[chosen], len(answers))
