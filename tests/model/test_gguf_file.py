"""GGUF files give the models that were put into them; damaged and hostile ones give one sentence, quickly."""

from __future__ import annotations

import contextlib
import random
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from fathom.errors import FathomError
from fathom.model.families.gguf_file import load_gguf
from tests.model.gguf_files import gguf_name, permuted, small_model, write

TOKENS = torch.tensor([[1, 5, 9, 2, 90, 33, 7, 7, 60, 11]])


def logits(decoder: object) -> torch.Tensor:
    with torch.inference_mode():
        return decoder.logits(decoder(TOKENS))  # type: ignore[operator, attr-defined]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(("tied", "num_kv_heads"), [(True, 1), (False, 2), (False, 4)])
def test_a_file_in_f32_gives_the_logits_of_transformers(
    tmp_path: Path, architecture: str, tied: bool, num_kv_heads: int
) -> None:
    model = small_model(architecture, tied=tied, num_kv_heads=num_kv_heads)
    write(tmp_path / "m.gguf", model, Kind.F32)
    decoder, _ = load_gguf(tmp_path / "m.gguf")
    with torch.inference_mode():
        torch.testing.assert_close(logits(decoder), model(TOKENS).logits, rtol=1e-4, atol=1e-4)
    assert decoder.config.tie_word_embeddings == tied


# The largest error that each format may leave, as a share of the weights' own size.
WITHIN = {Kind.F16: 1e-3, Kind.BF16: 5e-3, Kind.Q8_0: 1e-2, Kind.Q4_0: 0.15, Kind.Q4_1: 0.15}


@pytest.mark.parametrize("kind", WITHIN)
def test_every_format_that_can_be_written_is_read_back(tmp_path: Path, kind: Kind) -> None:
    model = small_model("llama")
    write(tmp_path / "m.gguf", model, kind)
    decoder, _ = load_gguf(tmp_path / "m.gguf")
    for ours, theirs in (
        ("embedding", "model.embed_tokens"),
        ("layers.1.attention.q_proj", "model.layers.1.self_attn.q_proj"),
    ):
        got = decoder.state_dict()[f"{ours}.weight"]
        wanted = model.state_dict()[f"{theirs}.weight"]
        assert (got - wanted).norm() / wanted.norm() < WITHIN[kind]
        assert got.shape == wanted.shape


def by_hand_q4_k(block: bytes) -> list[float]:
    """Q4_K as ggml's `block_q4_K` describes it: 256 values, 8 groups with 6-bit scales and minima."""
    d, dmin = struct.unpack("<2e", block[:4])
    scales, quants, values = block[4:16], block[16:], []
    for group in range(8):
        if group < 4:
            scale, low = scales[group] & 63, scales[group + 4] & 63
        else:
            scale = (scales[group + 4] & 15) | (scales[group - 4] >> 6 << 4)
            low = (scales[group + 4] >> 4) | (scales[group] >> 6 << 4)
        half = quants[group // 2 * 32 : group // 2 * 32 + 32]
        values += [d * scale * (byte >> 4 if group % 2 else byte & 15) - dmin * low for byte in half]
    return values


def by_hand_q6_k(block: bytes) -> list[float]:
    """Q6_K as ggml's `block_q6_K`: 256 values of 6 bits, 16 groups with 8-bit scales."""
    low, high, scales = block[:128], block[128:192], struct.unpack("<16b", block[192:208])
    (d,) = struct.unpack("<e", block[208:210])
    values = []
    for index in range(256):
        half, rest = divmod(index, 128)
        quarter, column = divmod(rest, 32)
        byte = low[half * 64 + (quarter % 2) * 32 + column]
        bits = (byte >> 4 if quarter >= 2 else byte & 15) | ((high[half * 32 + column] >> (2 * quarter)) & 3) << 4
        values.append(d * scales[index // 16] * (bits - 32))
    return values


@pytest.mark.parametrize(
    ("kind", "block_bytes", "by_hand"), [(Kind.Q4_K, 144, by_hand_q4_k), (Kind.Q6_K, 210, by_hand_q6_k)]
)
def test_formats_that_cannot_be_written_are_unpacked_by_their_definition(
    tmp_path: Path, kind: Kind, block_bytes: int, by_hand: object
) -> None:
    model = small_model("qwen2", tied=True)
    write(tmp_path / "m.gguf", model, Kind.F32)
    rng = random.Random(1)
    scale_at = {Kind.Q4_K: (0, 2), Kind.Q6_K: (208,)}[kind]
    blocks = [bytearray(rng.randbytes(block_bytes)) for _ in range(96)]
    for block in blocks:
        for at in scale_at:
            block[at : at + 2] = struct.pack("<e", rng.uniform(0.001, 0.01))
    path = tmp_path / "k.gguf"
    replace_tensor(tmp_path / "m.gguf", path, "token_embd.weight", b"".join(map(bytes, blocks)), kind)
    got = load_gguf(path)[0].embedding.weight.detach()
    wanted = torch.tensor([by_hand(bytes(block)) for block in blocks])  # type: ignore[operator]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def replace_tensor(source: Path, target: Path, name: str, raw: bytes, kind: Kind) -> None:
    """Copy a file with one tensor's bytes and format replaced, by the `gguf` package's reader and writer."""
    import numpy as np

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "qwen2")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(key, field.contents(), field.types[0])
    for tensor in reader.tensors:
        if tensor.name == name:
            writer.add_tensor(name, np.frombuffer(raw, np.uint8).reshape(96, -1), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    write(path, small_model("llama", tied=True), Kind.Q8_0)
    return path.read_bytes()


def refused(path: Path, content: bytes, words: str = ".") -> str:
    """The sentence with which `content` is refused; in a second, and without memory for what it claims."""
    path.write_bytes(content)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FathomError, match=words) as caught:
        load_gguf(path)
    took, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 5
    assert peak < 20_000_000
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def header(version: int = 3, tensors: int = 0, pairs: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


HUGE = 2**63
HOSTILE = {
    "empty": (b"", "too short"),
    "another kind": (b"PK\x03\x04" + bytes(100), "begins with"),
    "a version to come": (header(version=9) + bytes(64), "version 9"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(64), "version"),
    "endless keys": (header(pairs=HUGE) + bytes(64), "needs"),
    "endless tensors": (header(tensors=2**40) + bytes(64), "needs"),
    "a key without end": (header(pairs=1) + struct.pack("<Q", HUGE) + bytes(64), "at most 65535"),
    "a text past the end": (header(pairs=1) + text(b"k") + struct.pack("<IQ", 8, 2**40) + bytes(64), "ends at byte"),
    "an array past the end": (header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 4, 2**62) + bytes(64), "needs"),
    "endless texts": (header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**61) + bytes(64), "at most"),
    "an array in itself": (header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 9) * 3 + bytes(64), "unsupported"),
    "an unknown type": (header(pairs=1) + text(b"k") + struct.pack("<I", 77) + bytes(64), "unknown value type 77"),
    "a key that is no text": (header(pairs=1) + text(b"\xff\xfe") + struct.pack("<II", 4, 1) + bytes(64), "UTF-8"),
    "a key twice": (header(pairs=2) + (text(b"k") + struct.pack("<II", 4, 1)) * 2 + bytes(64), "twice"),
    "too many dimensions": (header(tensors=1) + text(b"t") + struct.pack("<I", 2**31) + bytes(64), "dimensions"),
    "a size that overflows": (
        header(tensors=1) + text(b"t") + struct.pack("<I4QIQ", 4, 2**62, 2**62, 2**62, 4, 0, 0) + bytes(64),
        "ends at byte",
    ),
    "an offset that overflows": (
        header(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 2**64 - 32) + bytes(64), "ends at byte",
    ),
    "an unknown format": (header(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 4, 999, 0) + bytes(64), "format"),
    "half a block": (header(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 33, 8, 0) + bytes(99), "multiple of 32"),
    "no model": (header() + bytes(64), "architecture None"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_one_sentence(tmp_path: Path, name: str) -> None:
    content, words = HOSTILE[name]
    refused(tmp_path / "hostile.gguf", content, words)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, whole: bytes) -> None:
    for length in [0, 3, 23, 24, 100, 500, 1000, len(whole) // 2, len(whole) - 1]:
        refused(tmp_path / "cut.gguf", whole[:length])


def test_a_changed_byte_of_the_header_is_refused_or_harmless(tmp_path: Path, whole: bytes) -> None:
    rng = random.Random(5)
    path = tmp_path / "changed.gguf"
    for _ in range(150):
        content = bytearray(whole)
        content[rng.randrange(2500)] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        with contextlib.suppress(FathomError):  # any other exception fails the test
            load_gguf(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("llama.block_count", 3, "lacks the tensor 'blk.2"),
        ("llama.block_count", 2**32 - 1, "block_count"),
        ("llama.attention.head_count", 0, "head_count"),
        ("llama.embedding_length", 512, "has the shape"),
        ("general.architecture", "gemma4", "'gemma4'"),
        ("llama.rope.scaling.type", "yarn", "none or linear"),
        ("llama.expert_count", 8, "mixture of experts"),
    ],
)
def test_metadata_that_do_not_fit_the_tensors_are_named(tmp_path: Path, key: str, value: object, words: str) -> None:
    path = tmp_path / "m.gguf"
    write(path, small_model("llama", tied=True), Kind.Q8_0)
    rewritten = tmp_path / "rewritten.gguf"
    reader = gguf.GGUFReader(path)
    name = value if key == "general.architecture" else "llama"
    writer = gguf.GGUFWriter(rewritten, str(name))
    for field_key, field in reader.fields.items():
        if not field_key.startswith("GGUF.") and field_key not in ("general.architecture", key):
            writer.add_key_value(field_key, field.contents(), field.types[0])
    if key != "general.architecture":
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(rewritten, rewritten.read_bytes(), words)


def test_llama_3_factors_are_read_as_the_scaling_that_made_them(tmp_path: Path) -> None:
    import numpy as np
    from transformers import LlamaConfig, LlamaForCausalLM

    scaling = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = LlamaConfig(
        vocab_size=96, hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, head_dim=64,
        max_position_embeddings=131072, rope_parameters=scaling,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    plain = 1.0 / 500000.0 ** (torch.arange(0, 64, 2) / 64)
    factors = (plain / model.model.rotary_emb.inv_freq).numpy().astype(np.float32)  # what the converter stores
    path = tmp_path / "m.gguf"
    original = gguf.GGUFWriter.write_header_to_file
    with pytest.MonkeyPatch.context() as patch:

        def with_factors(self: gguf.GGUFWriter) -> None:
            self.add_tensor("rope_freqs.weight", factors)
            original(self)

        patch.setattr(gguf.GGUFWriter, "write_header_to_file", with_factors)
        write(path, model, Kind.F32)
    decoder, _ = load_gguf(path)
    positions_BT = torch.arange(0, 100_000, 10_000)[None]
    with torch.inference_mode():
        expected = model(TOKENS, position_ids=positions_BT).logits
        got = decoder.logits(decoder(TOKENS, positions_BT=positions_BT))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_names_and_rows_of_these_tests_are_those_of_llama_cpp() -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    assert names.get_name("model.layers.1.self_attn.q_proj") == gguf_name("model.layers.1.self_attn.q_proj.w")[:-2]
    import numpy as np

    assert permuted(np.arange(8.0), 1).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
