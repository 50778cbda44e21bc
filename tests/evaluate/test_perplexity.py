"""Bits per byte against a sum of its own: document by document, float64, no packing, from the held-out texts."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from fathom.data.manifest import prepare
from fathom.data.shards import Batches
from fathom.data.tokenizer import Tokenizer
from fathom.evaluate.perplexity import held_out_bits_per_byte
from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder

LENGTH = 64


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of short documents, three in ten held out; none is longer than a row."""
    folder = tmp_path_factory.mktemp("text")
    for name, unit in (("tides", "the tide of harbour {} rises to {} feet, é"), ("roads", "road {} is {} miles long")):
        rows = [{"text": unit.format(n * 17 % 101, n * n) + "."} for n in range(60)]
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    prepare([str(folder)], folder / "out", vocab_size=320, seed=0, held_out_fraction=0.3)
    return folder / "out"


@pytest.fixture(scope="module")
def decoder(prepared: Path) -> Decoder:
    config = ModelConfig(vocab_size=320, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    model = Decoder(config)
    model.init_weights(3)
    with torch.no_grad():  # away from the start, where every token is as likely as every other
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.eval()


def held_out_documents(prepared: Path, domain: str) -> list[list[int]]:
    """Token ids of each held-out document, read from the batches by their document numbers."""
    found: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for number, batch in enumerate(Batches(prepared, sequence_length=LENGTH, rows=8, seed=0).held_out(domain)):
        for row in range(batch.tokens.shape[0]):
            for place in range(batch.tokens.shape[1]):
                if batch.positions[row, place] or batch.loss_mask[row, place]:
                    key = (number, row, int(batch.documents[row, place]))
                    found.setdefault(key, []).append((int(batch.tokens[row, place]), int(batch.targets[row, place])))
    documents = [[pairs[0][0], *(target for _, target in pairs)] for pairs in found.values()]
    return [ids for ids in documents if len(set(ids)) > 2]  # what fills up a row is no document


def test_equals_a_sum_over_documents_in_double_precision(prepared: Path, decoder: Decoder) -> None:
    results = held_out_bits_per_byte(decoder, prepared, LENGTH)
    tokenizer = Tokenizer.load(prepared / "tokenizer")
    control = set(tokenizer.control_tokens.values())
    nats_of_all, bytes_of_all = 0.0, 0
    exact = copy.deepcopy(decoder).double()
    exact.compute_dtype = torch.float64
    for domain, part in results["domains"].items():
        nats, texts = 0.0, []
        for ids in held_out_documents(prepared, domain):
            with torch.no_grad():
                logits = exact.logits(exact(torch.tensor([ids[:-1]])))[0]
            losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
            nats += sum(float(loss) for loss, target in zip(losses, ids[1:], strict=True) if target not in control)
            texts.append(tokenizer.decode([id_ for id_ in ids if id_ not in control]))
        assert part["documents"] == len(texts) > 3
        assert part["bytes"] == sum(len(text.encode()) for text in texts)
        assert part["nats"] == pytest.approx(nats, rel=1e-5)
        assert part["bits_per_byte"] == pytest.approx(nats / math.log(2) / part["bytes"], rel=1e-5)
        nats_of_all, bytes_of_all = nats_of_all + nats, bytes_of_all + part["bytes"]
    assert results["bits_per_byte"] == pytest.approx(nats_of_all / math.log(2) / bytes_of_all, rel=1e-5)


def test_a_limit_of_tokens_scores_fewer_documents_whole(prepared: Path, decoder: Decoder) -> None:
    whole = held_out_bits_per_byte(decoder, prepared, LENGTH)
    some = held_out_bits_per_byte(decoder, prepared, LENGTH, max_tokens=whole["tokens"] // 8)
    assert 0 < some["tokens"] < whole["tokens"]
    assert some["bits_per_byte"] > 0


def test_a_better_model_of_the_text_has_fewer_bits(prepared: Path, decoder: Decoder) -> None:
    """A model that gives every token the same logit costs log2 of the vocabulary a token."""
    flat = Decoder(decoder.config)
    flat.init_weights(0)
    with torch.no_grad():
        flat.head.weight.zero_()
    results = held_out_bits_per_byte(flat, prepared, LENGTH)
    scored = sum(
        int(batch.loss_mask.sum())
        for domain in results["domains"]
        for batch in Batches(prepared, sequence_length=LENGTH, rows=8, seed=0).held_out(domain)
    )
    assert results["bits_per_byte"] == pytest.approx(scored * math.log2(320) / results["bytes"], rel=1e-6)
