import json
import shutil

import numpy as np
import pytest

from accord.errors import InputError
from accord.models.encoder import Encoder
from accord.models.locate import locate

TEXTS = [
    "How do I close an account?",
    "account closing steps",
    "What is the weather like on Mars?",
    "",
    "word " * 1000,
]


@pytest.fixture(scope="module")
def encoder(encoder_folder):
    return Encoder(encoder_folder)


@pytest.fixture(scope="module")
def vectors(encoder):
    return encoder.encode(TEXTS)


def test_vectors_are_normalised_and_fp32(vectors):
    assert vectors.shape == (5, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_another_wording_is_nearer_than_another_question(vectors):
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_a_vector_does_not_depend_on_its_company_or_place(encoder, vectors):
    for i in (0, 1, 2):
        np.testing.assert_allclose(encoder.encode([TEXTS[i]])[0], vectors[i], atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-5)


def test_nothing_to_encode_is_no_error(encoder):
    assert len(encoder.encode([])) == 0


def test_loading_waits_for_the_first_use(encoder_folder, tmp_path):
    assert Encoder(encoder_folder)._model is None
    Encoder(tmp_path / "none")  # refused at first use only


def test_a_folder_that_is_no_encoder_is_an_input_error(encoder_folder, tmp_path):
    with pytest.raises(InputError, match=r"encoder: .*cannot be loaded"):
        Encoder(tmp_path).encode(["a"])
    broken = tmp_path / "broken"
    shutil.copytree(encoder_folder, broken)
    for weights in broken.rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])  # a download that was cut off
    with pytest.raises(InputError, match=r"encoder: .*cannot be loaded"):
        Encoder(broken).encode(["a"])


def test_vectors_that_are_not_finite_are_an_input_error(encoder_folder):
    class Broken:
        def encode(self, texts, **options):
            return np.asarray([[0.0, 1.0], [np.inf, 0.0]], dtype=np.float32)

    encoder = Encoder(encoder_folder)
    encoder._model = Broken()
    with pytest.raises(InputError, match="not finite"):
        encoder.encode(["a", "b"])


def test_a_model_folder_is_refused_before_it_is_loaded(tmp_path):
    with pytest.raises(InputError, match=r"base: .*no such folder"):
        locate(str(tmp_path / "none"), "base")
    with pytest.raises(InputError, match=r"has no config\.json"):
        locate(str(tmp_path), "base")
    config = tmp_path / "config.json"
    for text, said in (
        ("{", "not valid JSON"),
        ("[]", "a JSON object is wanted"),
        (json.dumps({"auto_map": {"AutoModel": "x.Y"}}), "Python code of its own"),
        ("{}", r"no \*\.safetensors"),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=said):
            locate(str(tmp_path), "base")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert locate(str(tmp_path), "base") == tmp_path


def test_a_misspelt_embedded_model_is_told_the_right_one():
    with pytest.raises(InputError, match="did you mean `all-minilm-l6-v2`"):
        locate("package:all-minilm-l6", "encoder")


def test_an_id_that_is_not_to_be_had_is_an_input_error():
    with pytest.raises(InputError, match="neither a folder nor to be had from the model hub"):
        locate("nobody/no-such-model-at-all", "base")


def test_a_module_whose_weights_are_a_pickle_is_refused(encoder_folder, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_folder, folder)
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is a pickle"):
        Encoder(folder).encode(["a"])
