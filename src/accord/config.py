"""The config: one typed tree with a section for each stage, in the order of the data.

Precedence: defaults < YAML < `--set a.b=value`. Unknown keys are errors that name the nearest
right one. Where a section has a `type`, its further keys are options of that component.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from accord.files.hub import shown

STAGES = ("vary", "retrieve", "train", "weigh", "merge", "generate", "evaluate", "report")


# A file, or an address of the hub, which is written down as people write it.
Source = Annotated[Path, PlainSerializer(shown, when_used="json")]


class Section(BaseModel):
    """A part of the config. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComponentSection(Section):
    """A section that selects a component by `type`; further keys are that component's options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = Field(description="the name of the component, as `accord list` shows it")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the component as given, without those of the section itself."""
        return dict(self.model_extra or {})


def named(chosen: Sequence[str | ComponentSection]) -> list[tuple[str, dict[str, Any]]]:
    """(name, options) of each component of a list, in order."""
    return [(c, {}) if isinstance(c, str) else (c.type, c.options) for c in chosen]


class Prompt(Section):
    """How a question and its passages become a prompt; the same for training and generation."""

    template: Path | None = Field(None, description="a jinja2 file; null: the built-in one")
    max_tokens: int | None = Field(
        None, ge=32, description="prompt budget; null: what the model's window leaves"
    )


class Shares(Section):
    """Shares of the questions that carry no `split` of their own."""

    train: float = Field(0.6, ge=0, description="what the specialists learn from")
    dev: float = Field(0.15, ge=0, description="what the layer weights are made from")
    test: float = Field(0.25, ge=0, description="what the table is measured on")

    @model_validator(mode="after")
    def _sum(self) -> "Shares":
        if abs(self.train + self.dev + self.test - 1) > 1e-6:
            raise ValueError("the shares train, dev and test must sum to 1")
        return self


class Limit(Section):
    """At most so many questions of each split, the first ones; null: all."""

    train: int | None = Field(None, ge=1, description="training questions; null: all")
    dev: int | None = Field(None, ge=1, description="development questions; null: all")
    test: int | None = Field(None, ge=1, description="test questions; null: all")


class Data(Section):
    """Questions with reference answers, the passages, and frozen variations.

    Each a file or a list of files: JSONL, Parquet, or hf://datasets/OWNER/NAME.
    """

    qa: tuple[Source, ...] = Field(
        min_length=1, description="questions, or chats: `messages`, `prompt` and `completion`"
    )
    passages: tuple[Source, ...] = Field((), description="the collection that is searched")
    variations: tuple[Source, ...] = Field((), description="variations used as they are")
    contexts: tuple[Source, ...] = Field(
        (), description="passages of wordings, used as they are; other wordings are retrieved"
    )
    split: Shares = Field(Shares(), description="shares of questions without their own `split`")
    limit: Limit | None = Field(None, description="a smaller data set; null: all of it")

    @model_validator(mode="before")
    @classmethod
    def _as_lists(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = dict(value)
            for name in ("qa", "passages", "variations", "contexts"):
                if name in value and not isinstance(value[name], list | tuple):
                    value[name] = [] if value[name] is None else [value[name]]
        return value


class Vary(Section):
    """Which kinds of variation to make."""

    types: tuple[str | ComponentSection, ...] = Field(
        ("how_to_do", "i_we", "singular_plural_article", "semantic"),
        description="names of variations, or {type: NAME, option: value}",
    )
    max_per_question: int | None = Field(None, ge=1, description="keep at most so many wordings")

    def components(self) -> list[tuple[str, dict[str, Any]]]:
        """(name, options) of each kind, in order."""
        return named(self.types)


class Retrieve(ComponentSection):
    """The retriever, and how many passages each wording gets."""

    type: str = Field("bm25", description="the retriever; further keys are its options")
    k: int = Field(3, ge=1, description="passages for each wording")
    query: Literal["own", "canonical"] = Field(
        "own", description="search with the query as asked, or with its canonical form"
    )
    encoder: str | None = Field(
        None, min_length=1, description="of a dense retriever, named like base; null: the run's"
    )


class Lora(Section):
    """Low-rank adapters in place of full fine-tuning (Hu et al. 2022), by peft."""

    r: int = Field(16, ge=1, description="rank of the adapters")
    alpha: float = Field(32, gt=0, description="the adapter's output is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    targets: str | tuple[str, ...] = Field(
        "all-linear",
        description="all-linear, the ends of module names, or a regular expression of whole names",
    )


class Controls(Section):
    """Rows that explain a merge away if they do as well; none by default, each costs a model."""

    scaled: float | None = Field(
        None, gt=0, description="ALL scaled and SFT scaled: their change of the base times this"
    )
    soup: int | None = Field(
        None, ge=2, description="ALL soup: the mean of ALL trained with so many seeds"
    )
    longer: bool = Field(
        False, description="ALL longer: ALL for as many steps as all specialists together"
    )


class Train(Section):
    """Specialists: cross-entropy on answer tokens, and a second term that `loss` names."""

    model_config = ConfigDict(extra="allow", frozen=True)
    loss: str = Field("triplet", description="the loss; further keys are its options")
    targets: Literal["reference", "self"] = Field(
        "reference",
        description="self: where a question has no answer, the base model's answer to its "
        "original wording is what all its wordings learn",
    )
    epochs: int = Field(2, ge=1, description="passes over the training examples")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="of the learning rate after the warm-up"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with a rising rate")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    batch_size: int = Field(16, ge=1, description="examples in one optimizer step, all processes")
    micro_batch_size: int = Field(4, ge=1, description="examples in one forward pass")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16: autocast, fp32 weights")
    gradient_checkpointing: bool = Field(False, description="less memory for more time")
    lora: Lora | None = Field(None, description="null: full fine-tuning; {}: LoRA as it is here")
    early_stopping: int | None = Field(
        None,
        ge=1,
        description="stop after so many epochs without a lower loss on dev-select, keep the best",
    )
    checkpoint_steps: int | None = Field(
        None, ge=1, description="optimizer steps between checkpoints; null: one after each epoch"
    )
    report_to: tuple[str, ...] = Field(
        (), description="trackers of transformers: wandb, tensorboard, mlflow, ..."
    )
    side_by_side: int | None = Field(
        None, ge=1, description="rows trained at once, a process each; null: one for each GPU"
    )
    arguments: dict[str, Any] = Field(
        {}, description="further arguments of transformers.TrainingArguments: fsdp, deepspeed, ..."
    )
    controls: Controls = Field(Controls(), description="rows that a merge has to beat")
    specialists: dict[str, tuple[str, ...]] = Field(
        {"HTD": ("how_to_do", "i_we"), "SEM": ("semantic",), "SPA": ("singular_plural_article",)},
        min_length=1,
        description="a specialist for each entry: base set + variations of these types",
    )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the loss as given."""
        return dict(self.model_extra or {})

    @property
    def kinds(self) -> set[str]:
        """The kinds of rewording that some specialist is trained on."""
        return {kind for kinds in self.specialists.values() for kind in kinds}

    @model_validator(mode="after")
    def _sizes(self) -> "Train":
        if self.batch_size % self.micro_batch_size:
            raise ValueError("batch_size must be a multiple of micro_batch_size")
        taken = {"B", "SFT", "SFT+TL", "ALL", "Merged"} & set(self.specialists)
        if taken:
            raise ValueError(f"specialist `{min(taken)}` has the name of another row")
        for name in self.specialists:
            if not re.fullmatch(r"[\w.+-]{1,64}", name) or name.startswith("."):
                raise ValueError(f"specialist `{name}`: letters, digits and _ . + - only")
        return self


class Weigh(ComponentSection):
    """Layer weights (Algorithm 1)."""

    type: str = Field("paper", description="the weighting; further keys are its options")
    similarity: str = Field("standardized", description="of two layers' views of the queries")
    pool: Literal["max", "mean", "last"] = Field("max", description="tokens to one vector")
    queries: Literal["all", "originals_only"] = Field(
        "all", description="development originals with their variations, or originals alone"
    )


class Merge(Section):
    """How the specialists become one model."""

    model_config = ConfigDict(extra="allow", frozen=True)
    method: str = Field("dare_ties", description="the method; further keys are its options")
    outside_layers: Literal["mean", "base"] = Field(
        "mean", description="weight of embeddings, final norm and head: mean of the layers, or 0"
    )
    dtype: Literal["F32", "F16", "BF16"] | None = Field(
        None, description="of the merged weights; as the base's if not given"
    )
    exempt_1d: bool = Field(
        False, description="drop nothing from tensors of one dimension (norms, biases)"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the method as given."""
        return dict(self.model_extra or {})


class Generate(Section):
    """Greedy decoding of every test wording by every model."""

    model_config = ConfigDict(extra="allow", frozen=True)
    backend: str = Field("transformers", description="the backend; further keys are its options")
    max_new_tokens: int = Field(128, ge=1, description="at most so many tokens an answer")
    contexts: tuple[Literal["own", "original", "gold"], ...] = Field(
        ("own", "original"),
        description="the passages of each wording, of its original question, or the gold ones",
    )
    repeat: int = Field(1, ge=1, description="how many times all is asked; 2: the noise floor")
    canonical: tuple[str, ...] = Field(
        ("B", "Merged"),
        description="rows that are also asked the canonical query, as NAME+canonical",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("contexts"), str):
            value = {**value, "contexts": [value["contexts"]]}
        return value

    @model_validator(mode="after")
    def _own(self) -> "Generate":
        if "own" not in self.contexts:
            raise ValueError("contexts must have `own` among them, which the table is made of")
        if len(set(self.contexts)) < len(self.contexts):
            raise ValueError("contexts names one kind twice")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Options of the backend as given."""
        return dict(self.model_extra or {})


class Evaluate(Section):
    """Accuracy and consistency with intervals."""

    T: float = Field(0.7, ge=0, lt=1, description="RS counts pairs with ROUGE-L F1 above this")
    accuracy: tuple[str | ComponentSection, ...] = Field(
        ("rouge_l", "bleu"), description="metrics of answers against references"
    )
    consistency: tuple[str | ComponentSection, ...] = Field(
        ("em", "rs", "bs", "containment"), description="metrics of two answers to one question"
    )
    resamples: int = Field(2000, ge=100, description="bootstrap resamples and sign flips")


class Report(Section):
    """The page."""

    title: str | None = Field(None, description="null: the name of the run")


class Config(Section):
    """A whole run."""

    base: str = Field(min_length=1, description="model folder, id on the hub, or package:NAME")
    encoder: str = Field(
        "package:all-minilm-l6-v2", min_length=1, description="sentence encoder, named like base"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of splits, variations, training and merge")
    prompt: Prompt = Field(Prompt(), description="how a question is put to a model")
    data: Data = Field(description="questions, passages, frozen variations")
    vary: Vary = Field(Vary(), description="stage 1: other wordings of each question")
    retrieve: Retrieve = Field(Retrieve(), description="stage 2: passages for each wording")
    train: Train = Field(Train(), description="stage 3: specialists")
    weigh: Weigh = Field(Weigh(), description="stage 4: layer weights")
    merge: Merge = Field(Merge(), description="stage 5: one model from the specialists")
    generate: Generate = Field(Generate(), description="stage 6: answers of every model")
    evaluate: Evaluate = Field(Evaluate(), description="stage 7: the table")
    report: Report = Field(Report(), description="stage 8: the page")
