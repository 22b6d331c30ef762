"""What `accord init` writes."""

import pytest
from helpers import tree

from accord.configfile import load_config
from accord.data import load_dataset
from accord.errors import InputError
from accord.example import FILES, example_folder, write_example


@pytest.mark.parametrize("place", [".", "new", "new/deep"])
def test_the_example_is_copied_whole_into_a_new_or_empty_folder(tmp_path, place):
    assert write_example(tmp_path / place) == list(FILES)
    written = tree(tmp_path / place)
    assert written == {name: (example_folder() / name).read_bytes() for name in FILES} | {}
    config = load_config(tmp_path / place / "accord.yaml")
    assert load_dataset(config.data, config.seed).of_split("test")


def test_every_file_of_the_example_is_shipped():
    assert {p.name for p in example_folder().iterdir()} == set(FILES)


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path):
    (tmp_path / "mine").write_text("x")
    for place in (tmp_path, tmp_path / "mine"):
        with pytest.raises(InputError, match="not empty"):
            write_example(place)
    assert tree(tmp_path) == {"mine": b"x"}
