"""The merge against mergekit, sd-mecha and the machine's own limit; memory; sameness of bytes.

    python benchmarks/merge.py speed [--size 1.1b] [--mergekit BIN] [--sd-mecha PYTHON] [--rounds 3]
    python benchmarks/merge.py memory                 # 2, 3 and 8 models, small and large shards
    python benchmarks/merge.py same                   # threads, shards, order, kernels

`speed` makes a base and three models of a Llama shape in bf16 (kept in --folder) and merges them
with dare_ties at density .8. Every side is a process of its own, its start included; they take
turns, and ratios are of one round. The floor reads all inputs and writes as much as the output
(`cat`). `--cold` drops the file cache before each (root on Linux). Give the mergekit-yaml of an
environment with mergekit, and a python that has sd-mecha; each runs with its fastest flags.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

SHAPES = {  # hidden, intermediate, layers, vocabulary, key/value size, tied
    "1.1b": (2048, 5632, 22, 32000, 256, False),
    "135m": (576, 1536, 30, 49152, 192, True),
}
LABELS = ("a", "b", "c", "d", "e", "f", "g", "h")
WEIGHT, DENSITY = 0.4, 0.8

SD_MECHA = """
import sys, sd_mecha, torch
base, *models, out, density, weight = sys.argv[1:]
torch.set_num_threads(2)
recipe = sd_mecha.add_ties_with_dare(
    sd_mecha.model(base), *map(sd_mecha.model, models),
    probability=1 - float(density), alpha=float(weight), seed=0,
)
sd_mecha.merge(
    recipe, output=out, merge_device="cpu", merge_dtype=torch.float32,
    output_dtype=torch.bfloat16, threads=2, check_finite_output=False,
)
"""


class Took(NamedTuple):
    """One process: seconds, CPU seconds, MiB at most."""

    wall: float
    cpu: float
    peak: float


def shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama."""
    hidden, wide, layers, words, narrow, tied = SHAPES[size]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, hidden),
        "model.norm.weight": (hidden,),
    }
    if not tied:
        found["lm_head.weight"] = (words, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        found |= {
            f"{at}input_layernorm.weight": (hidden,),
            f"{at}post_attention_layernorm.weight": (hidden,),
            f"{at}self_attn.q_proj.weight": (hidden, hidden),
            f"{at}self_attn.k_proj.weight": (narrow, hidden),
            f"{at}self_attn.v_proj.weight": (narrow, hidden),
            f"{at}self_attn.o_proj.weight": (hidden, hidden),
            f"{at}mlp.gate_proj.weight": (wide, hidden),
            f"{at}mlp.up_proj.weight": (wide, hidden),
            f"{at}mlp.down_proj.weight": (hidden, wide),
        }
    return found


def make(folder: Path, size: str, number: int, shards: int = 1) -> Path:
    """Model `number` of a size: 0 is the base, the others lie near it. Kept if it is there."""
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True)
    names = shapes(size)
    parts: list[list[str]] = [list(names)[k::shards] for k in range(shards)]
    places = {}
    for k, part in enumerate(parts, start=1):
        file = "model.safetensors" if shards == 1 else f"model-{k:05}-of-{shards:05}.safetensors"
        places |= dict.fromkeys(part, file)
        _write(folder / file, {name: names[name] for name in part}, number)
    if shards > 1:
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hidden, wide, layers, words, narrow, tied = SHAPES[size]
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": wide, "num_hidden_layers": layers, "vocab_size": words,
        "num_attention_heads": hidden // 64, "num_key_value_heads": narrow // 64,
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _write(path: Path, names: Mapping[str, tuple[int, ...]], number: int) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in names.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + _bytes(shape)]}
        at += _bytes(shape)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in names.items():
            seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
            rng, own = np.random.default_rng(seed), np.random.default_rng([seed, number])
            left = _bytes(shape) // 2
            while left:
                count = min(left, 1 << 20)
                values = rng.standard_normal(count, np.float32) * np.float32(0.02)
                if number:
                    values += own.standard_normal(count, np.float32) * np.float32(0.001)
                bits = values.view(np.uint32)
                out.write(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes())
                left -= count


def _bytes(shape: Sequence[int]) -> int:
    return 2 * int(np.prod(shape))


def config_of(folder: Path, models: Sequence[Path], method: str = "dare_ties") -> Path:
    """A mergekit YAML that both tools read."""
    parameters = {"weight": WEIGHT} | ({} if method == "linear" else {"density": DENSITY})
    tree = {
        "merge_method": method,
        "base_model": str(models[0]),
        "models": [{"model": str(model), "parameters": parameters} for model in models[1:]],
        "dtype": "bfloat16",
    }
    path = folder / f"{method}-{len(models) - 1}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def run(command: Sequence[str | Path], out: Path, *, cold: bool = False) -> Took:
    """One process from its start to its end; what it wrote is removed before and after."""
    for path in (out, out.with_name(f".{out.name}.partial")):
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    os.sync()
    if cold:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    began = time.perf_counter()
    log = out.with_name("log.txt")
    with log.open("w") as said:
        process = subprocess.Popen([str(c) for c in command], stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise SystemExit(f"{command[0]}: ended with {status}\n{log.read_text()[-2000:]}")
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def ours(config: Path, out: Path, *more: str) -> list[str | Path]:
    """Our command."""
    return [sys.executable, "-m", "accord", "merge", config, "-o", out, "--quiet", *more]


def speed(given: argparse.Namespace) -> None:
    """All sides in turn."""
    models = [make(given.folder / f"{given.size}-{k}", given.size, k) for k in range(4)]
    files = [model / "model.safetensors" for model in models]
    config, out = config_of(given.folder, models), given.out / "merged"
    given.out.mkdir(parents=True, exist_ok=True)
    text = f"cat {' '.join(map(str, files))} > /dev/null; mkdir {out}; cat {files[0]} > {out}/o"
    sides: dict[str, list[str | Path]] = {
        "floor": ["sh", "-c", text],
        "accord": ours(config, out),
        "numpy": ours(config, out, "--kernel", "numpy"),
    }
    if given.mergekit:
        flags = ["--quiet", "--no-write-model-card", "-j", "2", "--async-write"]
        sides["mergekit"] = [given.mergekit, config, out, *flags]
    if given.sd_mecha:
        to = out / "o.safetensors"
        run_it = ["sh", "-c", f'mkdir {out}; exec "$@"', "sh", given.sd_mecha, "-c", SD_MECHA]
        sides["sd-mecha"] = [*run_it, *files, to, str(DENSITY), str(WEIGHT)]
    run(sides["accord"], out)  # the kernel is compiled once
    took = take_turns(sides, out, given)
    for other in [side for side in sides if side not in ("floor", "accord")]:
        print(f"{other} over accord, wall: {ratio(took[other], took['accord'])}")
    if "mergekit" in sides:
        print(f"mergekit over numpy, wall: {ratio(took['mergekit'], took['numpy'])}")
    print(f"floor over accord, wall: {ratio(took['floor'], took['accord'])}")
    print(f"floor over accord, CPU: {ratio(took['floor'], took['accord'], lambda t: t.cpu)}")


def take_turns(
    sides: Mapping[str, Sequence[str | Path]], out: Path, given: argparse.Namespace
) -> dict[str, list[Took]]:
    """Each side once a round."""
    took: dict[str, list[Took]] = {name: [] for name in sides}
    for number in range(given.rounds):
        for name, command in sides.items():
            if name in ("mergekit", "sd-mecha", "numpy") and number >= given.slow_rounds:
                continue
            took[name].append(run(command, out, cold=given.cold))
            wall, cpu, peak = took[name][-1]
            print(f"  {name:<9}{wall:8.2f} s wall {cpu:8.2f} s CPU {peak:8.0f} MiB", flush=True)
    return took


def ratio(
    above: Sequence[Took], below: Sequence[Took], of: Callable[[Took], float] = lambda t: t.wall
) -> str:
    """The median over rounds, and its range."""
    found = [of(a) / of(b) for a, b in zip(above, below, strict=False)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def memory(given: argparse.Namespace) -> None:
    """Peak memory by number of models, shards and size."""
    given.out.mkdir(parents=True, exist_ok=True)
    for size, count, shards in (
        ("135m", 3, 1), ("135m", 2, 1), ("135m", 8, 1), ("135m", 3, 5), ("1.1b", 3, 1),
    ):  # fmt: skip
        tail = f"-{shards}" if shards > 1 else ""
        models = [
            make(given.folder / f"{size}-{k}{tail}", size, k, shards) for k in range(count + 1)
        ]
        took = run(
            ours(config_of(given.folder, models), given.out / "merged"), given.out / "merged"
        )
        print(f"{size}, base + {count}, {shards} shards: {took.peak:.0f} MiB, {took.wall:.2f} s")


def same(given: argparse.Namespace) -> None:
    """Bytes for threads, shards, order and kernels."""
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out / "merged"
    # Labels come from the folders' names, so both sets are called the same.
    models = [make(given.folder / "one" / f"m{k}", "135m", k) for k in range(4)]
    sharded = [make(given.folder / "five" / f"m{k}", "135m", k, 5) for k in range(4)]
    for method in ("dare_ties", "ties", "linear"):
        digests = {}
        for name, chosen, more in (
            ("2 threads", models, ()),
            ("1 thread", models, ("--threads", "1")),
            ("numpy", models, ("--kernel", "numpy")),
            ("other order", [models[0], *models[:0:-1]], ()),
            ("5 shards", sharded, ()),
        ):
            run(ours(config_of(given.folder, chosen, method), out, *more), out)
            digests[name] = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
        print(f"{method}: {len(set(digests.values()))} digest(s) for {', '.join(digests)}")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "memory", "same"))
    parser.add_argument("--size", choices=tuple(SHAPES), default="1.1b")
    parser.add_argument("--folder", type=Path, default=Path(".cache/merge"), help="of the models")
    parser.add_argument("--out", type=Path, default=Path(".cache/merge/out"), help="for results")
    parser.add_argument("--mergekit", help="mergekit-yaml of its own environment")
    parser.add_argument("--sd-mecha", help="python of an environment with sd-mecha")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-rounds", type=int, default=1, help="of numpy and the other tools")
    parser.add_argument("--cold", action="store_true", help="with an empty file cache")
    given = parser.parse_args()
    {"speed": speed, "memory": memory, "same": same}[given.what](given)


if __name__ == "__main__":
    main()
