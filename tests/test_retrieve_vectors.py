"""Vectors of texts: encoded once, in their order, and not again after a kill."""

import numpy as np
import pytest

from accord.retrieve.vectors import BATCH, Vectors


class Counting:
    """Encodes numbers written as texts, and remembers which."""

    def __init__(self):
        self.seen = []

    def __call__(self, texts):
        self.seen.extend(texts)
        return np.array([[float(t), 1.0, -float(t)] for t in texts], dtype=np.float32)


TEXTS = [str(n % (BATCH + 10)) for n in range(2 * BATCH)]


@pytest.mark.parametrize("keep", [False, True])
def test_texts_are_encoded_once_and_come_in_their_order(tmp_path, keep):
    own = Counting()
    vectors = Vectors(own, tmp_path / "found.vectors" if keep else None)
    assert vectors.encode(TEXTS)[:, 0].tolist() == [float(t) for t in TEXTS]
    assert vectors.encode(["3", "9999"]).tolist() == [[3, 1, -3], [9999, 1, -9999]]
    assert own.seen == [*(str(n) for n in range(BATCH + 10)), "9999"]
    assert (tmp_path / "found.vectors").is_file() == keep


# Bytes of the file that are left: nothing, part of the head, head, and records whole or torn.
RECORD = 32 + 3 * 4


@pytest.mark.parametrize(
    ("size", "kept"),
    [(0, 0), (3, 0), (4, 0), (4 + RECORD - 1, 0), (4 + RECORD, 1), (4 + 7 * RECORD + 20, 7)],
)
def test_a_kill_loses_only_what_was_not_written_whole(tmp_path, size, kept):
    file = tmp_path / "found.vectors"
    whole = Vectors(Counting(), file).encode(TEXTS)
    bytes_ = file.read_bytes()
    assert len(bytes_) == 4 + (BATCH + 10) * RECORD
    file.write_bytes(bytes_[:size])
    own = Counting()
    assert np.array_equal(Vectors(own, file).encode(TEXTS), whole)
    assert own.seen == [str(n) for n in range(kept, BATCH + 10)]
    again = Counting()
    assert np.array_equal(Vectors(again, file).encode(TEXTS), whole)
    assert again.seen == [] and file.read_bytes() == bytes_


def test_no_texts_are_no_vectors():
    assert Vectors(lambda texts: np.zeros((len(texts), 3))).encode([]).shape == (0, 3)
