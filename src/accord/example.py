"""The example data set that `accord init` starts from."""

import shutil
from importlib import resources
from pathlib import Path

from accord.errors import InputError

FILES = ("accord.yaml", "qa.jsonl", "passages.jsonl", "paraphrases.jsonl", "README.md")


def example_folder() -> Path:
    """examples/helpdesk: inside an installed package, else in the source tree."""
    packaged = Path(str(resources.files("accord"))) / "examples" / "helpdesk"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "examples" / "helpdesk"


def write_example(folder: Path) -> list[str]:
    """Copy the example into an empty or absent folder; returns the names written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty; give a new folder: accord init DIR")
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(example_folder() / name, folder / name)
    return list(FILES)
