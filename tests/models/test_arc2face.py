from __future__ import annotations

import json

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from models.arc2face import PROMPT, Arc2FacePrompt, plain_prompt, prompt_tokens
from models.refsel import CheckpointError

WORDS = PROMPT.split()


def _text_encoder(width=16):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=10,
        eos_token_id=2,
    )
    return CLIPTextModel(config)


def _tokenizer(folder, *, id_is_a_word=True):
    letters = sorted(set("".join(WORDS)))
    entries = ["!", *letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1 and (id_is_a_word or word != "id"):
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            entries.append(parts[0])
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges), ""]))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 10})
    )
    return vocabulary


def test_the_prompt_is_the_encoder_run_on_the_person_in_the_words_place():
    encoder = _text_encoder()
    tokens = [40, 5, 6, 7, 8, 9, 41, 41, 41, 41]
    prompt = Arc2FacePrompt(encoder, tokens, position=4)
    people = torch.nn.functional.normalize(torch.randn(2, 12), dim=1)
    found = prompt(people)
    assert found.shape == (2, 10, 16)
    for person, states in zip(people, found, strict=True):
        # The same by other means: the person written into the table of words.
        twin = _text_encoder()
        twin.load_state_dict(encoder.state_dict())
        with torch.no_grad():
            table = twin.get_input_embeddings().weight
            table[8] = torch.cat([person, torch.zeros(4)])
            expected = twin(input_ids=torch.tensor([tokens])).last_hidden_state[0]
        assert torch.allclose(states, expected, atol=1e-6)
    # Attention is causal: what stands before the person does not know who it is.
    assert torch.allclose(found[0, :4], found[1, :4], atol=1e-6)
    assert not torch.allclose(found[0, 4:], found[1, 4:], atol=1e-3)


def test_the_encoder_is_left_as_it_was():
    encoder = _text_encoder()
    tokens = torch.tensor([[40, 5, 6, 7, 8, 9, 41, 41, 41, 41]])
    before = encoder(input_ids=tokens).last_hidden_state
    prompt = Arc2FacePrompt(encoder, tokens[0].tolist(), position=4)
    prompt(torch.randn(1, 12))
    assert torch.equal(encoder(input_ids=tokens).last_hidden_state, before)
    assert not prompt(torch.randn(1, 12)).requires_grad


def test_the_tokens_come_from_the_tokenizers_own_files(tmp_path):
    vocabulary = _tokenizer(tmp_path)
    tokens, position = prompt_tokens(tmp_path)
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    words = [vocabulary[f"{word}</w>"] for word in WORDS]
    assert tokens[: len(words) + 2] == [start, *words, end]
    assert len(tokens) == 10
    assert position == 4


def test_a_plain_prompt_is_one_for_everybody(tmp_path):
    _tokenizer(tmp_path)
    encoder = _text_encoder()
    assert plain_prompt(encoder, tmp_path, "photo of a person").shape == (10, 16)


def test_a_tokenizer_that_is_missing_or_does_not_know_the_word_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no CLIP tokenizer"):
        prompt_tokens(tmp_path)
    _tokenizer(tmp_path / "other", id_is_a_word=False)
    with pytest.raises(CheckpointError, match="not one token"):
        prompt_tokens(tmp_path / "other")
