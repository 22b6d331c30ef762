"""Merges in tests: masks, blends of plain arrays, folders of small models."""

import json

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from accord.merge.blend import AS_DELTA, F32, Rows, piece_of
from accord.merge.checkpoint import INDEX
from accord.merge.masks import LEVELS, draws, threshold


def mask(key, start, count, density):
    """Which of the elements [start, start + count) DARE keeps."""
    level = threshold(density)
    return np.ones(count, bool) if level == LEVELS else draws(key, start, count) < level


class Plain:
    """A tensor of K deltas as methods see it."""

    def __init__(self, deltas, weights, base=None):
        self.deltas = [np.asarray(d, np.float32) for d in deltas]
        self.base = np.zeros_like(self.deltas[0]) if base is None else np.float32(base)
        self.weights, self.models = tuple(weights), len(deltas)
        self.shape = self.deltas[0].shape
        self.size = self.deltas[0].size

    def products(self):
        rows = np.array([self.base, *self.deltas], np.float64).reshape(self.models + 1, -1)
        return (rows @ rows.T).tolist()


def blended(blend, deltas, base=None, kernel=piece_of, keys=None):
    """theta_base + change of deltas given as arrays; the base is 0 if it is not given."""
    rows = np.array([np.zeros_like(deltas[0]) if base is None else base, *deltas], np.float32)
    count = rows[0].size
    data = rows.reshape(len(rows), -1).view(np.uint8)
    codes = (F32, *[AS_DELTA] * len(deltas))
    out = np.empty(4 * count, np.uint8)
    piece = kernel(blend, keys or tuple(range(len(deltas))))
    piece(Rows(np.ascontiguousarray(data), codes, 0, count), out, F32, 3e38)
    return out.view(np.float32).reshape(np.shape(deltas[0]))


def random_tensors(seed, shapes, dtype=torch.float32):
    """Random tensors by name, the same for the same seed."""
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=g).to(dtype) for name, shape in shapes.items()}


def model_folder(folder, tensors, config, shards=1):
    """A model folder with a tokenizer file that says nothing."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    names, places = sorted(tensors), {}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    for k in range(shards):
        part = f"model-{k}.safetensors"
        places |= dict.fromkeys(names[k::shards], part)
        save_file({n: tensors[n] for n in names[k::shards]}, folder / part)
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    return folder


def tensors_in(folder):
    """All tensors of a model folder."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found
