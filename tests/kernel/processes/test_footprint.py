"""The need of a process: what a training leases is what was measured of it, or a little more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmos.abi.device import LeaseKind
from llmos.abi.json_type import Json
from llmos.abi.method import low_rank_weights
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.abi.process import Spec
from llmos.kernel.processes.footprint import MIB, NOTHING, FootprintFacts, ModelShape, attached_bytes, shape_of
from llmos.kernel.programs import declaration_of

SMOLLM2: Json = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "vocab_size": 49152,
    "attention_dropout": 0.0,
}
MINILM: Json = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "vocab_size": 30522,
    "attention_probs_dropout_prob": 0.1,
}
T5: Json = {
    "is_encoder_decoder": True,
    "d_model": 512,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "vocab_size": 32128,
    "dropout_rate": 0.1,
}
BART: Json = {
    "is_encoder_decoder": True,
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 3,
    "num_hidden_layers": 6,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "vocab_size": 50265,
    "attention_dropout": 0.1,
}
BASES: dict[str, tuple[Json, int, dict[str, Json]]] = {
    "generate": (SMOLLM2, 538_060_000, {"tasks": ["chat", "generate"], "max_tokens": 8192}),
    "classify": (MINILM, 90_868_376, {"max_tokens": 256}),
}


def footprint_of(spec: Spec, model: Manifest, facts: FootprintFacts = NOTHING) -> dict[LeaseKind, int]:
    return declaration_of(spec.program).footprint(spec, model, facts)


def recipe(task: str, **told: Json) -> dict[str, Json]:
    return {"task": task, "name": "n", "base": "b", "data": {"train": "/rows.csv"}, **told}


def leased(task: str, *, threads: int = 2, device: str = "cpu0", **told: Json) -> int:
    config, weights, options = BASES[task]
    base = Manifest("b", 1, Kind.BASE, "embed", (File("w", "d", weights, Part.WEIGHTS),), options=options)
    spec = Spec("train", recipe(task, **told), device=device)
    return sum(footprint_of(spec, base, FootprintFacts(weights, shape_of(config), threads=threads)).values())


@pytest.mark.parametrize(
    ("task", "method", "batch_size", "measured_mib"),
    [
        ("generate", "full", 8, 5976),
        ("generate", "lora", 8, 4834),
    ],
)
def test_a_training_leases_what_it_was_seen_to_take_and_at_most_a_quarter_more(
    task: str, method: str, batch_size: int, measured_mib: int
) -> None:
    need = leased(task, method=method, batch_size=batch_size) / MIB
    assert measured_mib <= need <= 1.25 * measured_mib, f"{need:,.0f} MiB"


def test_what_makes_a_training_smaller_makes_its_lease_smaller() -> None:
    for task in BASES:
        for method in ("full", "lora"):
            whole = leased(task, method=method)
            assert leased(task, method=method, token_budget=256) < whole
            assert leased(task, method=method, threads=1) < whole
            assert leased(task, method=method, device="cuda0") == leased(task, method=method, threads=1)
        assert leased(task, method="lora", lora={"rank": 8}) < leased(task, method="lora")
        assert leased(task, method="full", save_best=False) < leased(task, method="full")
    assert leased("classify", options={"max_tokens": 32}) < leased("classify")
    assert leased("classify", batch_size=8) < leased("classify")


def test_a_run_whose_own_models_give_labels_has_room_for_those_of_all_weights() -> None:
    rows = {"data": {"train": "/rows.csv", "unlabelled": "/rest.csv"}}
    assert leased("classify", method="lora", **rows) >= leased("classify", method="full", save_best=True)
    assert leased("classify", method="head", **rows) == leased("classify", method="head")


@pytest.mark.parametrize("task", BASES)
def test_a_frozen_base_in_fewer_bits_makes_the_lease_smaller(task: str) -> None:
    sizes = [leased(task, method="lora", base_dtype=dtype) for dtype in (None, "float32", "bfloat16", "int8", "int4")]
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3] > sizes[4]


def test_a_base_whose_config_says_nothing_is_counted_by_its_weights() -> None:
    base = Manifest("tiny", 1, Kind.BASE, "embed", (File("w", "d", 400_000_000, Part.WEIGHTS),))

    def need(program: str, **args: Json) -> int:
        return sum(footprint_of(Spec(program, args), base).values())

    full, lora = (need("train", **recipe("classify", method=method)) for method in ("full", "lora"))
    assert full > lora > need("serve") > 400_000_000
    assert full > 4 * 400_000_000
    assert shape_of({"model_type": "unheard of"}) is None


def test_an_encoder_with_a_decoder_is_counted_with_both_by_whichever_names_it_has() -> None:
    assert shape_of(T5) == ModelShape(512, 2048, 6, 32128, 8, 0.1, writing=6)
    assert shape_of({**T5, "num_decoder_layers": 2}) == ModelShape(512, 2048, 6, 32128, 8, 0.1, writing=2)
    assert shape_of(BART) == ModelShape(768, 3072, 6, 50265, 12, 0.1, writing=3)
    t5, encoder = ModelShape(512, 2048, 6, 32128, 8, writing=6), ModelShape(512, 2048, 6, 32128, 8)
    layer = 10 * 512 + 2 * 2048  # of an encoder, without a gate
    weights = t5.table + 6 * (4 * 512 + 2 * 2048) * 512 + 6 * (8 * 512 + 2 * 2048) * 512
    assert t5.token_floats(weights, 1) == 6 * (layer + 6 * 512)
    assert encoder.token_floats(t5.table + 6 * (4 * 512 + 2 * 2048) * 512, 1) == 6 * layer
    assert low_rank_weights(t5.widths, 16) == 2 * low_rank_weights(encoder.widths, 16) + 6 * 16 * 8 * 512


def test_weights_kept_in_sixteen_bits_are_trained_in_twice_as_many() -> None:
    base = Manifest("half", 1, Kind.BASE, "embed", (File("w", "d", 1000, Part.WEIGHTS),))
    for config, size in ((MINILM, 1000), ({**MINILM, "torch_dtype": "bfloat16"}, 2000)):
        found = footprint_of(Spec("train", recipe("classify")), base, FootprintFacts(1000, shape_of(config)))
        assert found[LeaseKind.WEIGHTS] == size


def test_a_base_that_generates_is_served_with_room_for_keys_and_values() -> None:
    weights = (File("w", "d", 400_000_000, Part.WEIGHTS),)
    speaker = Manifest("talk", 1, Kind.BASE, "chat", weights, options={"tasks": ["chat", "generate"]})
    encoder = Manifest("embed", 1, Kind.BASE, "embed", weights)
    room = FootprintFacts(kv_bytes=5)
    assert footprint_of(Spec("serve"), speaker, room)[LeaseKind.KV] == 5
    assert LeaseKind.KV not in footprint_of(Spec("serve"), encoder, room)
    assert LeaseKind.KV not in footprint_of(Spec("evaluate"), speaker, room)


def test_an_adapter_in_another_form_than_its_file_is_leased_as_it_is_in_memory() -> None:
    files = (File("adapter_model.safetensors", "0" * 64, 100, Part.ADAPTER),)
    plain = Manifest("m", 1, Kind.MODEL, "classify", files, base="minilm:1", method="loha")
    assert attached_bytes(plain) == 100
    assert attached_bytes(replace(plain, lineage={"resident_bytes": 400})) == 400
    assert attached_bytes(replace(plain, lineage={"resident_bytes": 40})) == 100
