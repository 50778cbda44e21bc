"""Folders that transformers writes answer alike here, and those written here answer alike there, to 1e-4 in fp32."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from fathom.errors import FathomError
from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder
from fathom.model.families.hf_config import config_from_hf, config_to_hf
from fathom.model.families.huggingface import load_pretrained, save_pretrained

TINY = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
}
YARN = {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 128, "beta_fast": 32, "beta_slow": 1}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


def yarn(**more):
    return {"rope_scaling": YARN | more, "rope_theta": 10000.0}


CASES = {
    "llama": ("Llama", TINY),
    "llama-tied": ("Llama", TINY | {"tie_word_embeddings": True, "head_dim": 16}),
    "llama-rope3": ("Llama", TINY | {"rope_scaling": LLAMA3, "rope_theta": 500000.0}),
    "llama-linear": ("Llama", TINY | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "llama-yarn": ("Llama", TINY | yarn()),
    "qwen2": ("Qwen2", TINY),
    "qwen3": ("Qwen3", TINY | {"head_dim": 16}),
    "qwen3-moe": (
        "Qwen3Moe",
        TINY
        | {
            "head_dim": 16,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "norm_topk_prob": True,
        },
    ),
    "qwen3-moe-dense-first": (
        "Qwen3Moe",
        TINY | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "mlp_only_layers": [0]},
    ),
    "v2-lite": ("DeepseekV2", TINY | LATENT | {"q_lora_rank": None} | yarn(mscale=0.707, mscale_all_dim=0.707)),
    "v2-groups": (
        "DeepseekV2",
        TINY
        | LATENT
        | {
            "q_lora_rank": 20,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 16.0,
        },
    ),
    "v3": ("DeepseekV3", TINY | LATENT | {"q_lora_rank": 20, "n_group": 4, "topk_group": 2}),
    "v3-no-query-rank": ("DeepseekV3", TINY | LATENT | {"q_lora_rank": None, "n_group": 1, "topk_group": 1}),
    "v3-halves": (
        "DeepseekV3",
        TINY | LATENT | {"q_lora_rank": 20, "n_group": 1, "topk_group": 1, "rope_interleave": False},
    ),
    "v3-dense": ("DeepseekV3", TINY | LATENT | {"q_lora_rank": None, "first_k_dense_replace": 2}),
    "v3-yarn-equal": (
        "DeepseekV3",
        TINY | LATENT | {"n_group": 1, "topk_group": 1} | yarn(mscale=1.0, mscale_all_dim=1.0),
    ),
    "v3-yarn-unequal": (
        "DeepseekV3",
        TINY | LATENT | {"n_group": 1, "topk_group": 1} | yarn(mscale=0.707, mscale_all_dim=1.0),
    ),
    "v3-yarn-plain": ("DeepseekV3", TINY | LATENT | {"n_group": 1, "topk_group": 1} | yarn()),
}


@torch.no_grad()
def random_transformers_model(case: str):
    """A transformers model whose every weight matters: norms, biases and router bias are drawn too."""
    family, options = CASES[case]
    config = getattr(transformers, f"{family}Config")(**json.loads(json.dumps(options)))
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if "inv_freq" not in name:
            tensor.normal_(1.0 if "norm" in name else 0.0, 0.1)
    return model


def their_logits(model, tokens, positions):
    with torch.no_grad():
        return model(input_ids=tokens, position_ids=positions).logits


def our_logits(decoder, tokens, positions):
    with torch.no_grad():
        return decoder.logits(decoder(tokens, positions_BT=positions))


# Position 0 alone would hide a wrong YaRN; 5000 lies far outside the trained context.
POSITIONS = torch.tensor([[0, 1, 100, 5000], [0, 1, 2, 3]])
TOKENS = torch.tensor([[5, 17, 60, 96], [3, 3, 8, 0]])


@pytest.mark.parametrize("case", CASES)
def test_import_and_export_keep_the_logits(case, tmp_path):
    theirs = random_transformers_model(case)
    theirs.save_pretrained(tmp_path / "in")
    decoder, config = load_pretrained(tmp_path / "in")
    expected = their_logits(theirs, TOKENS, POSITIONS)
    torch.testing.assert_close(our_logits(decoder, TOKENS, POSITIONS), expected, atol=1e-4, rtol=0)

    save_pretrained(decoder, tmp_path / "out", torch.float32)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(again).__name__ == type(theirs).__name__
    torch.testing.assert_close(their_logits(again, TOKENS, POSITIONS), expected, atol=1e-4, rtol=0)
    assert load_pretrained(tmp_path / "out")[1] == config


MTP_CONFIG = ModelConfig(
    vocab_size=97,
    hidden_size=48,
    num_layers=2,
    num_heads=4,
    attention="latent",
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=8,
    intermediate_size=80,
    num_experts=4,
    num_experts_per_token=2,
    num_shared_experts=1,
    moe_intermediate_size=24,
    first_dense_layers=1,
    num_mtp_layers=1,
)


def random_decoder(config: ModelConfig) -> Decoder:
    decoder = Decoder(config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in (*decoder.named_parameters(), *decoder.named_buffers()):
            tensor.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.1)
    return decoder


def test_multi_token_heads_lie_where_deepseek_keeps_them(tmp_path):
    decoder = random_decoder(MTP_CONFIG)
    save_pretrained(decoder, tmp_path, torch.float32)
    names = set(load_file(tmp_path / "model.safetensors"))
    parts = {name.removeprefix("model.layers.2.") for name in names if name.startswith("model.layers.2.")}
    assert {
        "enorm.weight",
        "hnorm.weight",
        "eh_proj.weight",
        "shared_head.norm.weight",
        "shared_head.head.weight",
    } <= parts
    assert {"embed_tokens.weight", "input_layernorm.weight", "self_attn.kv_b_proj.weight", "mlp.gate.weight"} <= parts
    again, config = load_pretrained(tmp_path)
    assert config.num_mtp_layers == 1
    for (name, ours), (_, back) in zip(decoder.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(ours, back), name


def test_multi_token_head_computes_what_transformers_computes(tmp_path, monkeypatch):
    """The head's hidden states against transformers' own multi-token module on the exported files."""
    from transformers.modeling_layers import MtpModel

    # transformers knows where the heads lie only for the published depth of 61 layers
    patterns = [r"model\.layers\.2\..*"]
    monkeypatch.setattr(transformers.DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", patterns)
    decoder = random_decoder(MTP_CONFIG)
    save_pretrained(decoder, tmp_path, torch.float32)
    main = transformers.DeepseekV3ForCausalLM.from_pretrained(tmp_path)
    head = MtpModel.from_pretrained(main)
    tokens = torch.tensor([[5, 17, 60, 96, 4, 4, 31]])
    positions = torch.arange(6)[None]
    with torch.no_grad():
        hidden = decoder(tokens)[:, :-1]
        context = decoder._context(tokens[:, 1:], None, None, None)
        ours, _, _ = decoder.mtp[0](hidden, decoder.embedding(tokens[:, 1:]), context, None)
        embeds, states = main.get_input_embeddings()(tokens[:, 1:]), main.model(tokens).last_hidden_state[:, :-1]
        causal = torch.full((6, 6), float("-inf")).triu(1)[None, None]
        angles = main.model.rotary_emb(embeds, positions)
        theirs = head.layers[0](embeds, states, angles, causal, positions, None)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


# ---- files that must be refused ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    random_transformers_model("llama").save_pretrained(tmp_path)
    return tmp_path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def refused(folder: Path) -> str:
    with pytest.raises(FathomError) as caught:
        load_pretrained(folder)
    return str(caught.value)


def test_shard_cut_short_is_refused_with_name_and_missing_bytes(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    message = refused(folder)
    assert "model.safetensors" in message
    assert "1000 bytes are missing" in message


@pytest.mark.parametrize("header", [2**63, 10**9], ids=["overflow", "beyond the file"])
def test_header_longer_than_the_file_is_refused(folder, header):
    path = folder / "model.safetensors"
    path.write_bytes(header.to_bytes(8, "little") + path.read_bytes()[8:])
    assert "header claims" in refused(folder)


def test_a_depth_that_no_model_has_is_refused_before_it_is_built():
    with pytest.raises(FathomError, match="num_layers = 1000000000"):
        config_from_hf({"model_type": "llama", **TINY, "num_hidden_layers": 10**9})


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [16, 0]},
        {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": "x", "data_offsets": [0, 16]},
        ["F32"],
    ],
    ids=["overflowing shape", "negative", "8-bit float", "shape no list", "no object"],
)
def test_hostile_header_is_refused(folder, entry):
    text = json.dumps({"model.norm.weight": entry}).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    assert "model.safetensors" in refused(folder)


def test_missing_tensor_is_named(folder):
    tensors = weights(folder)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert "model.layers.1.mlp.up_proj.weight" in refused(folder)


def test_unexplained_tensor_is_named(folder):
    save_file(weights(folder) | {"model.layers.0.self_attn.o_proj.bias": torch.ones(48)}, folder / "model.safetensors")
    assert "model.layers.0.self_attn.o_proj.bias" in refused(folder)


def test_wrong_shape_is_named(folder):
    save_file(weights(folder) | {"model.norm.weight": torch.ones(47)}, folder / "model.safetensors")
    assert "model.norm.weight has shape [47]" in refused(folder)


def test_untied_without_output_projection_is_refused(folder):
    tensors = weights(folder)
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert "lm_head.weight" in refused(folder)


def test_tied_with_another_output_projection_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert "lm_head.weight" in refused(folder)


def test_pickled_weights_are_never_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickle" in refused(folder)


def test_shards_are_written_read_and_checked(folder):
    decoder, _ = load_pretrained(folder)
    out = folder / "out"
    save_pretrained(decoder, out, torch.float32, max_shard_bytes=40_000)
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert not list(out.glob("*.partial"))
    again, _ = load_pretrained(out)
    assert all(
        torch.equal(a, b) for a, b in zip(decoder.state_dict().values(), again.state_dict().values(), strict=True)
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert torch.equal(theirs.lm_head.weight, decoder.head.weight)
    shards[1].write_bytes(shards[1].read_bytes()[:-8])
    message = refused(out)
    assert shards[1].name in message
    assert "8 bytes are missing" in message
    shards[1].unlink()
    assert shards[1].name in refused(out)


def test_index_that_points_outside_the_folder_is_refused(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"model.norm.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "outside.safetensors" in refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mamba"},
        {"hidden_act": "gelu"},
        {"mlp_bias": True},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        {"quantization_config": {"quant_method": "fp8"}},
        {"hidden_size": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_not_computed_here_is_refused_by_name(change):
    hf = config_to_hf(config_from_hf(TINY | {"model_type": "llama"}))
    with pytest.raises(FathomError, match=next(iter(change)).replace("rope_scaling", "rope scaling")):
        config_from_hf(hf | change)
