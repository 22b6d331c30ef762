"""LoRA by peft: adapters put onto a model, and folded into its weights again."""

from pathlib import Path

from accord.config import Lora
from accord.errors import InputError
from accord.models.base import CausalLM, load_model


def with_adapters(model: CausalLM, settings: Lora) -> CausalLM:
    """The model with frozen weights and new adapters (Hu et al. 2022).

    Raises InputError where peft is not installed or the targets match nothing.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError('train.lora: LoRA needs peft: pip install "accord[models]"') from None
    targets = settings.targets
    wanted = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        fan_in_fan_out=model.config.model_type == "gpt2",  # its layers hold their weights so
    )
    try:
        return get_peft_model(model, wanted)
    except ValueError as error:
        if "not found in the base model" not in str(error) and "No modules" not in str(error):
            raise
        raise InputError(
            f"train.lora.targets: {_shown(targets)} matches no module of the model; it has "
            + ", ".join(linear_names(model))
        ) from None


def check_targets(folder: Path, settings: Lora) -> None:
    """Raise InputError if the targets match nothing in the model of a folder; loads no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder, local_files_only=True)
        )
        with_adapters(model, settings)


def linear_names(model: CausalLM) -> list[str]:
    """The last parts of the names of the linear modules inside the layers."""
    head = model.get_output_embeddings()
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if module is not head and type(module).__name__ in {"Linear", "Conv1D"}
    }
    return sorted(names)


def _shown(targets: str | tuple[str, ...]) -> str:
    return repr(targets) if isinstance(targets, str) else repr(list(targets))


def folded(base: Path, adapter: Path) -> CausalLM:
    """The base in fp32 with the adapters of a folder folded into its weights, on the CPU."""
    from peft import PeftModel

    return PeftModel.from_pretrained(load_model(base, where="cpu"), adapter).merge_and_unload()
