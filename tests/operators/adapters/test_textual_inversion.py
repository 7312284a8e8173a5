"""Learned words: a prompt that says one is encoded with its vectors, all of them, in their order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from operators.adapters.loading import adapt
from operators.adapters.textual_inversion import OF_TWO_TOWERS, spelled_out
from operators.errors import ModelError
from operators.models import LatentModel
from tests.support.tiny_models import save_tiny_sd, save_tiny_sdxl


def learned(folder: Path, file: Path, token: str = "<mine>") -> LatentModel:
    model = LatentModel.from_pretrained(str(folder), precision="fp32")
    adapt(model, [{"textual_inversion": str(file), "token": token}])
    return model


def vectors(count: int, width: int = 32) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count + width))


@pytest.mark.parametrize("count", [1, 3])
def test_a_prompt_with_the_word_is_encoded_with_its_vectors_in_their_order(
    tmp_path: Path, count: int
) -> None:
    save_tiny_sd(tmp_path)
    made = vectors(count)
    save_file({"anything": made if count > 1 else made[0]}, tmp_path / "word.safetensors")
    model = learned(tmp_path, tmp_path / "word.safetensors")
    tokenizer, tower = model.text.towers[0]
    spelled = spelled_out("in <mine>, ink", tokenizer)
    rows = tower.get_input_embeddings()(tokenizer(spelled, return_tensors="pt").input_ids)[0]
    begin = 3  # start of text, "i", "n": the tiny tokenizer spells the first word in two
    found = [at for at in range(len(rows)) if torch.equal(rows[at : at + count], made)]
    assert len(found) == 1
    assert found[0] <= begin
    plain = LatentModel.from_pretrained(str(tmp_path), precision="fp32")
    told = model.condition("in <mine>, ink").tokens
    assert told.shape == plain.condition("in").tokens.shape
    assert not torch.allclose(told, plain.condition("in <mine>, ink").tokens, atol=1e-3)
    assert torch.equal(model.condition("in ink").tokens, plain.condition("in ink").tokens)
    assert not any(p.requires_grad for p in tower.parameters())


def test_two_words_of_which_one_begins_as_the_other_stay_apart(tmp_path: Path) -> None:
    save_tiny_sd(tmp_path)
    save_file({"a": vectors(2)}, tmp_path / "a.safetensors")
    save_file({"b": vectors(3)}, tmp_path / "b.safetensors")
    model = learned(tmp_path, tmp_path / "a.safetensors", "<ink>")
    adapt(model, [{"textual_inversion": str(tmp_path / "b.safetensors"), "token": "<ink-2>"}])
    tokenizer, tower = model.text.towers[0]
    numbers = tokenizer(spelled_out("<ink-2> <ink>", tokenizer), return_tensors="pt").input_ids
    rows = tower.get_input_embeddings()(numbers)[0]
    assert torch.equal(rows[1:-1], torch.cat([vectors(3), vectors(2)]))


def test_both_towers_of_sdxl_learn_and_the_pooled_state_is_still_that_of_the_end(tmp_path: Path) -> None:
    save_tiny_sdxl(tmp_path)
    # Published configurations of the second tower say 2, and are then pooled at the largest number.
    config = tmp_path / "text_encoder_2" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token_id": 2}))
    made = {name: vectors(2) for name in OF_TWO_TOWERS}
    save_file(made, tmp_path / "word.safetensors")
    model = learned(tmp_path, tmp_path / "word.safetensors")
    condition = model.condition("in <mine>")
    (_, _), (tokenizer, tower) = model.text.towers
    spelled = tokenizer(spelled_out("in <mine>", tokenizer), return_tensors="pt").input_ids
    body = getattr(tower, "text_model", tower)
    end = int((spelled[0] == tokenizer.eos_token_id).nonzero()[0])
    states = body(spelled).last_hidden_state[:, end]
    assert torch.allclose(condition.pooled, tower.text_projection(states), atol=1e-5)


def test_what_does_not_fit_the_towers_is_refused(tmp_path: Path) -> None:
    save_tiny_sd(tmp_path)
    save_file({"a": vectors(2, 16)}, tmp_path / "narrow.safetensors")
    save_file({name: vectors(2) for name in OF_TWO_TOWERS}, tmp_path / "two.safetensors")
    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    for name in ("narrow", "two", "none"):
        with pytest.raises(ModelError, match=name):
            learned(tmp_path, tmp_path / f"{name}.safetensors")
    save_file({"a": vectors(1)}, tmp_path / "word.safetensors")
    with pytest.raises(ModelError, match="cannot be learned"):
        learned(tmp_path, tmp_path / "word.safetensors", "ink</w>")
    with pytest.raises(ModelError, match="text encoder"):
        adapt(
            LatentModel.from_pretrained("embedded"),
            [{"textual_inversion": str(tmp_path / "word.safetensors"), "token": "<mine>"}],
        )
