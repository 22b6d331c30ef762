"""How large the models of a run will be, from names and headers alone."""

from pathlib import Path

from accord.models.locate import EMBEDDED, cache_folder


def base_bytes(name: str) -> int:
    """Bytes of a model's weights as training writes them (fp32); 0 if not known yet."""
    if name == "package:smollm2-135m-instruct":
        gguf = EMBEDDED[name[8:]].inside.removesuffix(".gguf")
        made = list(cache_folder().glob(f"{gguf}-dequantised-*/*.safetensors"))
        return made[0].stat().st_size if made else 540_000_000
    files = Path(name).glob("*.safetensors") if Path(name).is_dir() else []
    return sum(_fp32_bytes(file) for file in files)


def _fp32_bytes(file: Path) -> int:
    from accord.merge.headers import read_header

    return sum(4 * tensor.size for tensor in read_header(file).values())
