"""Adapters from elsewhere: made by peft itself, pulled as they are, and answering here what they answer there."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch")

from pulling import Box
from safetensors.torch import load_file, save_file

from llmos.abi.call import Call
from llmos.abi.error import BadInput, Conflict, UnsafeWeights
from llmos.abi.model import Offer, OfferKind, Part, Verdict
from llmos.engines.pytorch import PyTorchEngine
from llmos.nn.load import load_folder
from llmos.programs.pull import main
from llmos.testing import adapters, tiny
from llmos.testing.errors import fails_with

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft's own
]

TEXTS = ["one", "a longer text than the first", "zwölf", "x" * 60]
LABELS = {0: "no", 1: "perhaps", 2: "yes"}
CLOSE = {"float32": 1e-5, "bfloat16": 0.1}  # of probabilities
TAGS = {0: "O", 1: "B-X", 2: "I-X"}


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path / "home")


def pull(box, source, **args):
    box.pid += 1
    main(box, box.assignment(str(source), **args))
    return box.reports[-1].message


def base(box, root, architecture="bert", name="base", seed=None):
    """A base in a folder and in the store; with a pooler where its architecture has one, as published ones come."""
    folder = tiny.write(root / name, architecture)
    model = tiny.plain(architecture)
    if architecture in ("bert", "roberta"):
        with torch.random.fork_rng():
            torch.manual_seed(seed or 0)
            whole = type(model)(model.config)
        if seed is None:
            whole.load_state_dict(model.state_dict(), strict=False)
        whole.save_pretrained(folder)
    pull(box, folder, name=name)
    return folder


def trained(folder, out, kind, *, labels=None, targets="all-linear", rank=4, **settings):
    """An adapter on the base in this folder, as peft saves it; its weights are random, as if trained."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    of = {"SEQ_CLS": AutoModelForSequenceClassification, "TOKEN_CLS": AutoModelForTokenClassification}
    of |= {"SEQ_2_SEQ_LM": AutoModelForSeq2SeqLM}
    of |= {"CAUSAL_LM": AutoModelForCausalLM, "FEATURE_EXTRACTION": AutoModel, None: AutoModel}
    named = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}} if labels else {}
    plain = of[kind].from_pretrained(folder, **named)
    if labels:
        plain.config.pad_token_id = tiny.PAD
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = LoraConfig(task_type=kind, r=rank, lora_alpha=8, target_modules=targets, **settings)
        model = get_peft_model(plain, config).eval()
        for key, weight in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(out)
    if labels:
        plain.config.save_pretrained(out)
    return model


def engine_with(box, ref, base="base", dtype="float32"):
    engine = PyTorchEngine()
    engine.load(box.store.located(base, dtype), "cpu0", dtype, 0)
    engine.attach(box.store.located(ref, dtype))
    return engine


def answers(box, ref, task, *inputs, base="base", dtype="float32", **params):
    engine = engine_with(box, ref, base, dtype)
    engine.add(Call(1, ref, task, inputs, params))
    while not engine.is_idle:
        for chunk in engine.step():
            assert chunk.fault is None, chunk.fault
            return chunk.outputs
    raise AssertionError("no answer")


def ids(text, folder):
    (encoded,) = load_folder(folder).tokenizer.encode([text])
    return torch.tensor([encoded.ids])


@pytest.mark.parametrize("architecture", ["bert", "roberta", "llama"])
def test_a_classifier_answers_what_peft_answers(box, tmp_path, architecture, dtype):
    folder = base(box, tmp_path, architecture)
    model = trained(folder, tmp_path / "sentiment", "SEQ_CLS", labels=LABELS)
    said = pull(box, tmp_path / "sentiment")
    assert said.startswith("sentiment:1 is ready: classify on base:1")
    manifest = box.store.resolve("sentiment")
    assert (manifest.method, manifest.labels) == ("lora", ("no", "perhaps", "yes"))
    for text, got in zip(TEXTS, answers(box, "sentiment:1", "classify", *TEXTS, dtype=dtype), strict=True):
        with torch.inference_mode():
            wanted = model(input_ids=ids(text, folder)).logits.softmax(-1)[0].tolist()
        assert [got["scores"][LABELS[i]] for i in range(3)] == pytest.approx(wanted, abs=CLOSE[dtype])


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_tagger_answers_what_peft_answers(box, tmp_path, architecture):
    folder = base(box, tmp_path, architecture)
    model = trained(folder, tmp_path / "tagger", "TOKEN_CLS", labels=TAGS, targets=["query", "value", "q_proj"])
    pull(box, tmp_path / "tagger")
    text = "Ada lives in Zürich now"
    engine = engine_with(box, "tagger:1")
    head, loaded = engine.models["tagger:1"].head, engine.models["base:1"].loaded
    from llmos.nn.packing import forward, pack

    (row,) = ids(text, folder).tolist()
    with torch.inference_mode(), engine.models["tagger:1"].adapter.on():
        got = head(forward(loaded.backbone, pack([row])), [len(row)])
    with torch.inference_mode():
        torch.testing.assert_close(got, model(input_ids=torch.tensor([row])).logits[0], atol=1e-5, rtol=1e-5)
    (answer,) = answers(box, "tagger:1", "tag", text)
    assert {span["label"] for span in answer["spans"]} <= {"X"}


def test_a_chat_models_adapter_generates_what_peft_generates(box, tmp_path):
    folder = base(box, tmp_path, "llama")
    model = trained(folder, tmp_path / "poet", "CAUSAL_LM", targets=["q_proj", "down_proj"], use_rslora=True)
    pull(box, tmp_path / "poet")
    assert box.store.resolve("poet").task == "chat"
    (got,) = answers(box, "poet:1", "generate", "hello there", temperature=0, max_tokens=8)
    prompt = ids("hello there", folder)
    made = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    assert got["text"] == load_folder(folder).tokenizer.decode(made[0, prompt.shape[1] :].tolist())


def test_an_embedding_adapter_with_ranks_and_alphas_by_pattern_embeds_as_in_peft(box, tmp_path):
    folder = base(box, tmp_path)
    patterns = {"rank_pattern": {"query": 7, r"layer\.1\..*value": 2}, "alpha_pattern": {"query": 3}}
    model = trained(folder, tmp_path / "vectors", "FEATURE_EXTRACTION", **patterns)
    pull(box, tmp_path / "vectors")
    (got,) = answers(box, "vectors:1", "embed", TEXTS[1], normalize=False)
    with torch.inference_mode():
        wanted = model(input_ids=ids(TEXTS[1], folder)).last_hidden_state[0].mean(0)
    torch.testing.assert_close(
        torch.frombuffer(bytearray(got["data"]), dtype=torch.float32), wanted, atol=1e-5, rtol=1e-5
    )


def test_what_was_pulled_says_where_from_and_under_which_licence(box, tmp_path):
    folder = base(box, tmp_path)
    out = adapters.write(tmp_path / "licensed", load_folder(folder).backbone, base_model_name_or_path="nobody/knows")
    (out / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    said = pull(box, out, name="mine")
    manifest = box.store.resolve("mine")
    assert (manifest.license, manifest.source, manifest.task) == ("cc-by-4.0", f"folder:{out}", "embed")
    assert (manifest.base, manifest.base_digest) == ("base:1", box.store.resolve("base").base_digest)
    assert manifest.lineage["adapter"]["base_model_name_or_path"] == "nobody/knows"
    assert "by its layers and shapes (it names nobody/knows)" in said
    assert box.offers[-1].verdict.promote


def test_ours_loads_in_peft_and_comes_back_by_its_digest(box, tmp_path):
    """What `llmos train` writes, peft computes alike; and on another box it finds its base by the digest within."""
    from peft import PeftModel

    folder, other = base(box, tmp_path), base(box, tmp_path, name="other", seed=9)
    from llmos.nn.adapters.adapter_file import load_adapter
    from llmos.nn.packing import forward, pack

    ours = load_folder(folder)
    tuned = adapters.fresh(ours, rank=3, seed=1)
    torch.manual_seed(7)
    for key, weight in tuned.model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.3)
    (tmp_path / "ours").mkdir()
    tuned.save(tmp_path / "ours", box.store.resolve("other").base_digest)
    said = pull(box, tmp_path / "ours")
    assert box.store.resolve("ours").base == "other:1"
    assert "known by its digest" in said
    backbone = load_folder(other).backbone
    row = pack(ids(TEXTS[1], other).tolist())
    with torch.inference_mode():
        bare = forward(backbone, row)
        with load_adapter(tmp_path / "ours", backbone).on():
            got = forward(backbone, row)
        wrapped = PeftModel.from_pretrained(backbone, tmp_path / "ours").eval()
        # peft adds in another order than we do; through two layers float32 then differs by a few units of 1e-5.
        torch.testing.assert_close(forward(wrapped.base_model.model, row), got, atol=1e-4, rtol=1e-4)
        assert (got - bare).abs().max() > 0.1, "an adapter that changes nothing would pass as well"


def test_a_base_is_found_by_the_weights_it_was_trained_on_whatever_file_they_are_in(box, tmp_path):
    base(box, tmp_path, name="other", seed=9)
    folder = base(box, tmp_path)
    again = shutil.copytree(folder, tmp_path / "elsewhere")
    weights = load_file(again / "model.safetensors")
    save_file(dict(reversed(weights.items())), again / "model.safetensors", {"saved": "again", "format": "pt"})
    trained(again, tmp_path / "mine", "FEATURE_EXTRACTION")
    assert "whose weights are those in" in pull(box, tmp_path / "mine")
    assert box.store.resolve("mine").base == "base:1"


def test_an_adapter_of_another_base_of_the_same_shapes_is_refused(box, tmp_path):
    base(box, tmp_path)
    stranger = tmp_path / "stranger"
    shutil.copytree(tmp_path / "base", stranger)
    weights = load_file(stranger / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"] + 1
    save_file(weights, stranger / "model.safetensors", {"format": "pt"})
    trained(stranger, tmp_path / "mine", "FEATURE_EXTRACTION")
    with fails_with(BadInput, adapter="mine", bases=["base:1"], folder=str(stranger), reason="other_base"):
        pull(box, tmp_path / "mine")


def test_where_several_bases_fit_one_is_to_be_named(box, tmp_path):
    folder = base(box, tmp_path)
    base(box, tmp_path, name="twin", seed=9)
    out = adapters.write(tmp_path / "mine", load_folder(folder).backbone)
    with fails_with(BadInput, bases=["base:1", "twin:1"], reason="several_bases"):
        pull(box, out)
    pull(box, out, base="twin")
    assert box.store.resolve("mine").base == "twin:1"
    with fails_with(BadInput, key="base", value="third"):
        pull(box, out, base="third")


def add_int8(box, name="base"):
    """A promoted version with the files of the base, served in int8."""
    evidence = box.home / "scratch" / "evidence"
    evidence.mkdir(parents=True)
    (evidence / "data.json").write_bytes(b"{}")
    draft = {"task": "embed", "dtype": "int8"}
    verdict = Verdict(promote=True, reason="it costs nothing")
    files = (("data.json", Part.EVIDENCE),)
    box.pid += 1
    box.offer(Offer(11, OfferKind.BASE, name, str(evidence), files, draft, verdict, like=f"{name}:1"))


def test_any_version_of_a_base_may_be_named_and_one_in_float_is_meant_unless_said(box, tmp_path):
    folder = base(box, tmp_path)
    add_int8(box)
    assert box.store.resolve("base").ref == "base:2"
    out = adapters.write(tmp_path / "mine", load_folder(folder).backbone)
    pull(box, out)
    assert box.store.resolve("mine").base == "base:1"
    pull(box, out, base="base:1", name="again")
    assert box.store.resolve("again").base == "base:1"
    assert box.store.resolve("again").evidence == {}
    with fails_with(BadInput, key="base", value="base:3"):
        pull(box, out, base="base:3", name="third")
    said = pull(box, out, base="base:2", name="rounded")
    assert box.store.resolve("rounded").evidence == {"quantized": {"dtype": "int8", "measured_on": 0}}
    assert "in int8 as its base is, and what that costs it was not measured: llmos eval rounded:1 --data" in said


def test_an_adapter_that_writes_chats_as_its_base_does_unless_another_task_is_said(box, tmp_path):
    folder = base(box, tmp_path, "llama")
    out = adapters.write(tmp_path / "poet", load_folder(folder).backbone, targets=("q_proj",), task_type="CAUSAL_LM")
    assert "trained to continue plain text, ask for that: --task generate" in pull(box, out)
    assert box.store.resolve("poet").task == "chat"
    assert "--task" not in pull(box, out, name="plain", task="generate")
    assert box.store.resolve("plain").task == "generate"
    with fails_with(BadInput, key="task", value="classify", base="base:1", expected="chat"):
        pull(box, out, name="sums", task="classify")


def test_bases_that_pytorch_cannot_serve_are_no_candidates(box, tmp_path):
    folder = base(box, tmp_path)
    graph = box.home / "scratch" / "graph"
    graph.mkdir(parents=True)
    (graph / "model.onnx").write_bytes(b"\x08\x08 a graph")
    box.pid += 1
    files = (("model.onnx", Part.WEIGHTS),)
    draft = {"task": "embed", "options": {"engine": "onnx"}}
    box.offer(Offer(1, OfferKind.BASE, "graph", str(graph), files, draft))
    out = adapters.write(tmp_path / "mine", load_folder(folder).backbone)
    pull(box, out)
    assert box.store.resolve("mine").base == "base:1"
    with fails_with(BadInput, key="engine", value="pytorch", model="graph:1"):
        pull(box, out, base="graph", name="other")


def test_an_adapter_needs_a_base_in_the_store(box, tmp_path):
    out = adapters.write(tmp_path / "mine", tiny.plain("bert"), base_model_name_or_path="org/name")
    with fails_with(BadInput, base="org/name", reason="no_base"):
        pull(box, out)


def spoilt(tmp_path, change=None, **config):
    """A good adapter's folder with something changed."""
    out = adapters.write(tmp_path / "spoilt", tiny.plain("bert"), targets=("query",), **config)
    if change is not None:
        weights = load_file(out / "adapter_model.safetensors")
        change(weights)
        save_file(weights, out / "adapter_model.safetensors", {"format": "pt"})
    return out


def nan(weights):
    next(iter(weights.values()))[0, 0] = float("nan")


def infinite(weights):
    list(weights.values())[-1][0, 0] = float("inf")


def wide(weights):
    for key in list(weights):
        if key.endswith("lora_A.weight"):
            weights[key] = torch.ones(4, 64)


def renamed(weights):
    for key in list(weights):
        weights[key.replace("query", "q_proj")] = weights.pop(key)


def magnitudes(weights):
    weights["base_model.model.encoder.layer.0.attention.self.query.lora_magnitude_vector"] = torch.ones(32)


def halved(weights):
    del weights[next(key for key in weights if key.endswith("lora_B.weight"))]


@pytest.mark.parametrize(
    ("change", "config", "detail"),
    [
        (nan, {}, {"reason": "not_finite"}),
        (infinite, {}, {"reason": "not_finite"}),
        (wide, {}, {"reason": "shapes"}),
        (renamed, {}, {"layer": ...}),
        (magnitudes, {}, {"reason": "not_lora"}),
        (halved, {}, {"reason": "no_pair"}),
        (dict.clear, {}, {"reason": "no_weights"}),
        (None, {"use_dora": True}, {"reason": "no_magnitude"}),
        (None, {"bias": "all"}, {"unsupported": ["bias"]}),
        (None, {"peft_type": "IA3"}, {"reason": "not_ia3"}),
        (None, {"peft_type": "OFT"}, {"unsupported": ["peft_type"], "value": "OFT"}),
        (None, {"init_lora_weights": "pissa_niter_4"}, {"unsupported": ["init_lora_weights"]}),
        (None, {"modules_to_save": ["embed_tokens"]}, {"unsupported": ["modules_to_save"]}),
        (None, {"trainable_token_indices": [1]}, {"unsupported": ["trainable_token_indices"]}),
        (None, {"lora_alpha": "much"}, {"setting": "lora_alpha", "value": "much"}),
        (None, {"r": 0}, {"setting": "rank", "said": 0, "rank": 4}),
        (None, {"r": 64}, {"setting": "rank", "said": 64, "rank": 4}),
        (None, {"rank_pattern": {"query": 8}}, {"setting": "rank", "said": 8, "rank": 4}),
        (None, {"alpha_pattern": {"(": 1}}, {"setting": "pattern", "value": "("}),
        (None, {"task_type": "SEQ_CLS"}, {"task_type": "SEQ_CLS", "reason": "no_head"}),
        (None, {"task_type": "CAUSAL_LM"}, {"task_type": "CAUSAL_LM", "reason": "no_task"}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_what_cannot_be_served_is_refused_and_nothing_is_kept(box, tmp_path, change, config, detail):
    base(box, tmp_path)
    with fails_with(BadInput, **detail):
        pull(box, spoilt(tmp_path, change, **config))
    assert [manifest.ref for manifest in box.store.manifests()] == ["base:1"]


def test_why_an_adapter_is_refused_is_said_of_the_base_whose_layers_it_changes(box, tmp_path):
    base(box, tmp_path)
    base(box, tmp_path, "llama", "other")
    with fails_with(BadInput, adapter="spoilt", bases=["base:1"], reason="not_finite"):
        pull(box, spoilt(tmp_path, nan))
    with fails_with(BadInput, adapter="spoilt", bases=["base:1", "other:1"]):
        pull(box, spoilt(tmp_path, renamed))


def test_pickled_adapters_and_broken_files_are_refused(box, tmp_path):
    base(box, tmp_path)
    out = spoilt(tmp_path)
    (out / "adapter_model.safetensors").write_bytes(b"not what it says")
    with fails_with(BadInput, file="adapter_model.safetensors"):
        pull(box, out)
    (out / "adapter_model.safetensors").rename(out / "adapter_model.bin")
    with fails_with(UnsafeWeights, path="adapter_model.bin"):
        pull(box, out)
    (out / "adapter_model.bin").unlink()
    with fails_with(BadInput, lacks="adapter_model.safetensors"):
        pull(box, out)


def test_a_head_that_says_nothing_of_its_labels_has_those_that_transformers_gives(box, tmp_path):
    folder = base(box, tmp_path)
    trained(folder, tmp_path / "mine", "SEQ_CLS", labels=LABELS)
    (tmp_path / "mine/config.json").unlink()
    pull(box, tmp_path / "mine")
    assert box.store.resolve("mine").labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    trained(folder, tmp_path / "tags", "TOKEN_CLS", labels=TAGS, targets=["query"])
    (tmp_path / "tags/config.json").unlink()
    with fails_with(BadInput, lacks="id2label", count=len(TAGS)):
        pull(box, tmp_path / "tags")


def test_several_labels_a_text_are_several_here(box, tmp_path):
    folder = base(box, tmp_path)
    trained(folder, tmp_path / "many", "SEQ_CLS", labels=LABELS)
    config = json.loads((tmp_path / "many/config.json").read_text())
    (tmp_path / "many/config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    pull(box, tmp_path / "many")
    (got,) = answers(box, "many:1", "classify", "text")
    assert set(got["scores"]) == set(LABELS.values())
    assert "labels" in got


def test_a_head_over_a_pooler_that_the_base_never_had_is_refused(box, tmp_path):
    folder = tiny.write(tmp_path / "bare", "bert")
    pull(box, folder, name="bare")
    trained(folder, tmp_path / "mine", "SEQ_CLS", labels=LABELS)
    with fails_with(BadInput, reason="lost_pooler"):
        pull(box, tmp_path / "mine")


def test_the_name_of_a_base_is_not_taken(box, tmp_path):
    base(box, tmp_path)
    with fails_with(Conflict, name="base"):
        pull(box, spoilt(tmp_path), name="base")


@pytest.mark.parametrize("architecture", ["t5", "marian", "bart", "mbart"])
def test_an_encoder_decoders_adapter_writes_what_peft_writes(box, tmp_path, architecture):
    folder = base(box, tmp_path, architecture)
    targets = ["q", "v"] if architecture == "t5" else ["q_proj", "v_proj", "fc1", "fc2"]  # as published ones have them
    model = trained(folder, tmp_path / "mine", "SEQ_2_SEQ_LM", targets=targets)
    pull(box, tmp_path / "mine", task="summarize")
    assert box.store.resolve("mine").task == "summarize"
    engine = engine_with(box, "mine:1")
    for call_id, ref in enumerate(("mine:1", "base:1", "mine:1", "base:1")):
        engine.add(Call(call_id, ref, "generate", (TEXTS[call_id // 2],), {"temperature": 0, "max_tokens": 12}))
    forced = architecture == "bart"  # a token that transformers counts
    got = {chunk.call_id: chunk.outputs[0]["text"] for _ in range(40) for chunk in engine.step()}
    for call_id in range(4):
        read = ids(TEXTS[call_id // 2], folder)
        with torch.inference_mode(), model.disable_adapter() if call_id % 2 else nullcontext():
            made = model.generate(input_ids=read, max_new_tokens=12 + forced, num_beams=1, do_sample=False)
        assert got[call_id] == load_folder(folder).tokenizer.decode(made[0].tolist())
    assert got[0] != got[1]


def test_an_adapter_of_an_encoder_with_a_decoder_says_which_tasks_it_may_be_for(box, tmp_path):
    folder = base(box, tmp_path, "t5")
    out = adapters.write(tmp_path / "mine", tiny.plain("t5"), targets=(".q",), task_type="SEQ_2_SEQ_LM")
    assert "say which: --task translate or summarize" in pull(box, out)
    assert box.store.resolve("mine").task == "generate"
    with fails_with(BadInput, key="task", value="chat", base="base:1", expected="generate"):
        pull(box, out, name="again", task="chat")
    wrong = adapters.write(tmp_path / "wrong", load_folder(folder).backbone, targets=(".q",), task_type="CAUSAL_LM")
    with fails_with(BadInput, task_type="CAUSAL_LM", reason="no_task"):
        pull(box, wrong)


@pytest.mark.parametrize(
    ("architecture", "kind"), [("t5", "SEQ_2_SEQ_LM"), ("bart", "SEQ_2_SEQ_LM"), ("llama", "CAUSAL_LM")]
)
def test_an_adapter_trained_here_to_generate_is_one_for_peft(box, tmp_path, architecture, kind):
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSeq2SeqLM

    folder = base(box, tmp_path, architecture)
    ours = load_folder(folder)
    tuned = adapters.fresh(ours, rank=3, seed=1)
    torch.manual_seed(7)
    for key, weight in tuned.model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.3)
    out = tmp_path / "ours"
    out.mkdir()
    tuned.save(out, box.store.resolve("base").base_digest, ours)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["task_type"] == kind
    (out / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(folder)}))
    auto = AutoPeftModelForCausalLM if kind == "CAUSAL_LM" else AutoPeftModelForSeq2SeqLM
    theirs = auto.from_pretrained(out).eval()  # a weight that is not found would be warned of, which is an error here
    read, most = ids(TEXTS[1], folder), 8 + (architecture == "bart")  # it forces a token, which transformers counts
    with torch.inference_mode():
        made = theirs.generate(
            input_ids=read, attention_mask=torch.ones_like(read), max_new_tokens=most, num_beams=1, do_sample=False
        )
        bare = tiny.plain(architecture).generate(
            input_ids=read, attention_mask=torch.ones_like(read), max_new_tokens=most, num_beams=1, do_sample=False
        )
    assert made.tolist() != bare.tolist()
    pull(box, out)
    (got,) = answers(box, "ours:1", "generate", TEXTS[1], temperature=0, max_tokens=8)
    new = made[0, read.shape[1] :] if kind == "CAUSAL_LM" else made[0]
    assert got["text"] == ours.tokenizer.decode(new.tolist())
