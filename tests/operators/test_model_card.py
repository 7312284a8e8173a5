"""Model cards: their front matter, the digests they state, and checkpoints that are not what they say."""

from __future__ import annotations

import pathlib
import pickle
import re
import shutil
from pathlib import Path

import pytest

from operators.errors import ModelError, TrainingError
from operators.model_card import CARD, read_front_matter, verify_weights, weight_digests, write_front_matter
from operators.models import LatentModel
from operators.training.networks import new_prior
from tests.support.tiny_models import save_tiny_sd

UNET = "unet/diffusion_pytorch_model.safetensors"
WEIGHTS = [UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_sd(tmp_path_factory.mktemp("published"))
    write_front_matter(folder, {"license": "cc0", "sha256": weight_digests(folder)}, "# A card\n")
    return folder


@pytest.fixture
def checkpoint(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "model"))


def test_facts_and_body_come_back_as_written(tmp_path: Path) -> None:
    facts = {
        "name": "später",
        "sha256": {"a/b.safetensors": "0" * 64},
        "note": "two\n---\nlines",
        "n": [1, 2],
    }
    body = "# Title\n\n---\n\nA rule in the body is no fence.\n"
    write_front_matter(tmp_path, facts, body)
    assert read_front_matter(tmp_path) == (facts, body)
    write_front_matter(tmp_path, *read_front_matter(tmp_path))
    assert read_front_matter(tmp_path) == (facts, body)


def test_digests_are_those_of_all_weights_and_of_nothing_else(published: Path) -> None:
    digests = weight_digests(published)
    assert sorted(digests) == sorted(WEIGHTS)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests.values())


def test_a_checkpoint_that_is_what_its_card_states_loads(checkpoint: Path) -> None:
    verify_weights(checkpoint)
    assert LatentModel.from_pretrained(str(checkpoint)).latent_channels == 4


@pytest.mark.parametrize("name", WEIGHTS)
def test_one_edited_bit_is_found_and_the_file_is_named(checkpoint: Path, name: str) -> None:
    content = bytearray((checkpoint / name).read_bytes())
    content[-1] ^= 1
    (checkpoint / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{re.escape(name)} is not the file of the model card"):
        LatentModel.from_pretrained(str(checkpoint))


def test_truncated_weights_are_named(checkpoint: Path) -> None:
    (checkpoint / UNET).write_bytes((checkpoint / UNET).read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{re.escape(UNET)} is not the file of the model card"):
        LatentModel.from_pretrained(str(checkpoint))


def test_missing_weights_are_named(checkpoint: Path) -> None:
    (checkpoint / UNET).unlink()
    with pytest.raises(ModelError, match=f"{re.escape(UNET)} is missing"):
        LatentModel.from_pretrained(str(checkpoint))


def test_training_does_not_start_from_edited_weights(checkpoint: Path) -> None:
    (checkpoint / UNET).write_bytes((checkpoint / UNET).read_bytes()[:-100])
    with pytest.raises(TrainingError, match=f"{re.escape(UNET)} is not the file of the model card"):
        new_prior(checkpoint, 0, wake=False)


@pytest.mark.parametrize(
    "card",
    [
        "# Only a title\n",
        "",
        "---\nlicense: [unclosed\n---\nbody\n",
        "---\n- a\n- list\n---\nbody\n",
        "---\nplain text\n---\nbody\n",
        "---\nreleased: 2024-06-31\n---\nbody\n",
        "---\nsize: !!int large\n---\nbody\n",
        "---\nwhen: !!timestamp soon\n---\nbody\n",
        "---\n" + "[" * 1000 + "\n---\nbody\n",
        "---\nrun: !!python/object/apply:os.getcwd []\n---\nbody\n",
        "\xff\xfe\x00",
    ],
    ids=lambda card: card[4:24].strip() or "empty",
)
def test_cards_of_other_people_are_no_obstacle(tmp_path: Path, card: str) -> None:
    (tmp_path / CARD).write_text(card, encoding="latin-1")
    facts, body = read_front_matter(tmp_path)
    assert facts == {}
    assert body.endswith(card[-5:]) or not card.isascii()
    verify_weights(tmp_path)


@pytest.mark.parametrize("stated", ["", "sha256: none\n", "sha256:\n- a\n", "license: mit\n"])
def test_front_matter_without_a_table_of_digests_states_nothing(tmp_path: Path, stated: str) -> None:
    (tmp_path / CARD).write_text(f"---\nname: x\n{stated}---\n")
    assert read_front_matter(tmp_path)[0]["name"] == "x"
    verify_weights(tmp_path)


def test_a_folder_without_a_card_has_no_facts(tmp_path: Path) -> None:
    assert read_front_matter(tmp_path) == ({}, "")


class _Trap:
    """Unpickling an instance makes the file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def test_pickled_weights_are_refused_and_never_unpickled(checkpoint: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(_Trap(sprung))
    pickle.loads(trap).close()
    assert sprung.exists(), "the trap must work for this test to mean anything"
    sprung.unlink()
    shutil.rmtree(checkpoint)
    shutil.copytree(pathlib.Path(save_tiny_sd(tmp_path / "plain")), checkpoint)
    (checkpoint / UNET).unlink()
    (checkpoint / UNET).with_suffix(".bin").write_bytes(trap)
    with pytest.raises(ModelError, match=r"no safetensors weights.*pickle files are never loaded"):
        LatentModel.from_pretrained(str(checkpoint))
    with pytest.raises(TrainingError, match="cannot be started from"):
        new_prior(checkpoint, 0, wake=False)
    assert not sprung.exists()
