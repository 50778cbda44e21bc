"""Exports load in `transformers` and compute the same; imports become runs; nothing is overwritten unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fathom.cli.export import export
from fathom.cli.import_ import import_model
from fathom.cli.models import OpenedModel, open_model
from fathom.data.chat import render
from fathom.errors import FathomError
from fathom.model.config import ModelConfig, RopeScaling
from fathom.model.decoder import Decoder
from tests.cli.chat_models import fathom, save, tokenizer

_LATENT = {"attention": "latent", "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
_EXPERTS = {
    "num_experts": 4, "num_experts_per_token": 2, "num_shared_experts": 1, "moe_intermediate_size": 16,
    "first_dense_layers": 1,
}  # fmt: skip
_YARN = RopeScaling(kind="yarn", factor=4.0, original_max_position_embeddings=32, mscale=1.0, mscale_all_dim=1.0)
FAMILIES = {
    "DeepseekV3ForCausalLM": {**_LATENT, **_EXPERTS, "q_lora_rank": 24, "rope_scaling": _YARN},
    "LlamaForCausalLM": {"num_kv_heads": 2},
    "Qwen3ForCausalLM": {"num_kv_heads": 2, "qk_norm": True, "tie_word_embeddings": True},
}


def opened(architecture: str) -> OpenedModel:
    own = tokenizer()
    config = ModelConfig(
        vocab_size=own.vocab_size, hidden_size=48, num_layers=2, num_heads=4, intermediate_size=96,
        max_position_embeddings=128, **FAMILIES[architecture],
    )  # fmt: skip
    decoder = Decoder(config)
    decoder.init_weights(3)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        for router in decoder.routers():
            router.bias.copy_(torch.randn(router.bias.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    return OpenedModel(decoder, config, own, {"temperature": 0.6, "top_p": 0.9}, own.eos_ids, "small")


@pytest.mark.parametrize("architecture", FAMILIES)
def test_an_export_computes_the_same_in_transformers_and_comes_back_the_same(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model = opened(architecture)
    written = export(model, tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert type(theirs).__name__ == architecture == written["architecture"]
    tokens_BT = torch.randint(0, model.config.vocab_size, (2, 100), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours_BTV = model.decoder.logits(model.decoder(tokens_BT))
        torch.testing.assert_close(theirs(tokens_BT).logits, ours_BTV, rtol=0, atol=1e-4)
    again = open_model(str(tmp_path / "out"))
    assert all(
        torch.equal(again.decoder.state_dict()[name], tensor) for name, tensor in model.decoder.state_dict().items()
    )
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "6 x 7?"}]
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    without, with_prompt = (
        their_tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
        for prompt in (False, True)
    )
    assert with_prompt == render(model.tokenizer, messages, True).ids
    assert with_prompt == [*without, model.tokenizer.token_id("<|assistant|>")]
    settings = GenerationConfig.from_pretrained(tmp_path / "out")
    assert set(settings.eos_token_id) == model.stop_ids == again.stop_ids
    assert (
        (settings.temperature, settings.top_p) == (0.6, 0.9) == (again.sampling["temperature"], again.sampling["top_p"])
    )


def test_greedy_answers_of_a_trained_export_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from fathom.infer.engine import Engine

    folder = save(tmp_path / "trained", "It is 42 of course, and 6 times 7 too.")
    model = open_model(str(folder))
    out = export(model, tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(out["directory"], dtype=torch.float32).eval()
    prompt = render(model.tokenizer, [{"role": "user", "content": "what is it?"}], True).ids
    ours = list(Engine(model.decoder).stream(prompt, max_new_tokens=60))
    generated = theirs.generate(torch.tensor([prompt]), max_new_tokens=60, do_sample=False, eos_token_id=None)
    assert ours == generated[0, len(prompt) :].tolist()


def test_a_folder_with_files_is_only_written_to_with_force(tmp_path: Path) -> None:
    model = save(tmp_path / "model", "yes")
    target = tmp_path / "taken"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    (target / "model-00001-of-00002.safetensors").write_bytes(b"of an older export")
    done = fathom("export", str(model), "--to", str(target))
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert "--force" in done.stderr
    assert sorted(path.name for path in target.iterdir()) == ["model-00001-of-00002.safetensors", "notes.txt"]
    done = fathom("export", str(model), "--to", str(target), "--force", "--json", "--dtype", "bf16")
    document = json.loads(done.stdout)
    assert document["architecture"] == "LlamaForCausalLM"
    assert (target / "notes.txt").read_text() == "mine"
    assert not (target / "model-00001-of-00002.safetensors").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"model", "taken"}  # nothing half-written is left


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch) -> None:
    from safetensors import SafetensorError

    from fathom.model.families import safetensors_file

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors_file, "save_file", full)
    with pytest.raises(FathomError, match=r"safetensors cannot be written: .*No space left"):
        safetensors_file.write_shards(tmp_path, [("a", torch.zeros(2))], 1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_an_import_is_a_run_that_answers_exports_and_says_where_it_came_from(tmp_path: Path) -> None:
    from fathom.ledger.verify import verify

    model = save(tmp_path / "model", "Imported, yes.")
    done = fathom("import", str(model), "--name", "mine", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"]["kind"] == "transformers"
    run = tmp_path / "runs" / "mine"
    assert fathom("chat", "mine", "--prompt", "hello", cwd=tmp_path).stdout == "Imported, yes.\n"
    assert not verify(run, tmp_path / "runs").problems
    assert str(model) in (run / "ledger.jsonl").read_text()
    assert not list(run.rglob("*.bin"))
    assert fathom("export", "mine", "--to", "out", cwd=tmp_path).returncode == 0
    first, second = (open_model(str(folder)).decoder.state_dict() for folder in (model, tmp_path / "out"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    again = fathom("import", str(model), "--name", "mine", cwd=tmp_path)
    assert again.returncode == 2
    assert "already exists" in again.stderr


def test_an_import_keeps_a_mixture_with_its_router_bias(tmp_path: Path) -> None:
    model = opened("DeepseekV3ForCausalLM")
    import_model(model, "test", tmp_path / "runs" / "moe", tmp_path / "runs")
    again = open_model("moe", runs=tmp_path / "runs")
    assert again.config == model.config
    assert again.sampling == model.sampling
    assert all(
        torch.equal(again.decoder.state_dict()[name], tensor) for name, tensor in model.decoder.state_dict().items()
    )


@pytest.mark.parametrize("name", ["../outside", "a/b", ".hidden", ""])
def test_names_that_would_leave_the_workspace_are_refused(name: str, tmp_path: Path) -> None:
    done = fathom("import", str(tmp_path), "--name", name, cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "outside").exists()


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "yes")
    config = json.loads((folder / "config.json").read_text())
    own = tokenizer()
    small = Decoder(
        ModelConfig(vocab_size=own.vocab_size - 1, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16)
    )
    small.init_weights(0)
    from fathom.model.families.huggingface import save_pretrained

    save_pretrained(small, folder, torch.float32)
    assert config["vocab_size"] == own.vocab_size
    with pytest.raises(FathomError, match="do not belong together"):
        open_model(str(folder))
