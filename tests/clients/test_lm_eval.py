"""lm-evaluation-harness with its model `local-completions`: tasks of its own kind, on rows of ours, without the hub."""

import json
import os

import pytest
from lm_eval import evaluator
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

CHOICES = """\
task: llmos_capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "The capital of {{{{country}}}} is"
doc_to_target: label
doc_to_choice: "{{{{cities}}}}"
metric_list: [{{metric: acc}}]
"""
WRITTEN = """\
task: llmos_written
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: generate_until
test_split: test
doc_to_text: "The capital of {{{{country}}}} is"
doc_to_target: "{{{{cities[label]}}}}"
generation_kwargs: {{until: ["\\n", "."], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
COUNTRIES = (
    ("France", "Paris", "Oslo"),
    ("Norway", "Oslo", "Rome"),
    ("Italy", "Rome", "Paris"),
    ("Spain", "Madrid", "Rome"),
)


@pytest.fixture(scope="module")
def model(server):
    """The harness's own client, with the model's tokenizer as the daemon has it."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    return LocalCompletionsAPI(
        model="smollm2",
        base_url=f"{server.v1}/completions",
        tokenizer_backend="huggingface",
        tokenizer=str(server.tokenizer("smollm2")),
        batch_size=4,
        max_retries=1,
        timeout=server.timeout_s,
    )


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    rows = folder / "rows.jsonl"
    made = [{"country": country, "cities": [right, wrong], "label": 0} for country, right, wrong in COUNTRIES]
    rows.write_text("".join(json.dumps(one) + "\n" for one in made))
    for name, text in (("choices", CHOICES), ("written", WRITTEN)):
        (folder / f"{name}.yaml").write_text(text.format(rows=rows))
    return TaskManager(include_path=str(folder), include_defaults=False)


def test_its_tasks_run_and_the_likelier_answer_is_chosen(model, tasks):
    said = {"bootstrap_iters": 0, "log_samples": True, "confirm_run_unsafe_code": False}
    found = evaluator.simple_evaluate(model, tasks=["llmos_capitals", "llmos_written"], task_manager=tasks, **said)
    assert found["results"]["llmos_capitals"]["acc,none"] >= 0.75
    written = [one["resps"][0][0] for one in found["samples"]["llmos_written"]]
    assert len(written) == len(COUNTRIES)
    assert all(one.strip() for one in written)


def test_the_daemon_s_own_tokenizer_is_the_model_s(model, server, tasks):
    """`tokenizer_backend=remote`: vLLM's routes of tokens, in place of a folder."""
    said = {"tokenizer_backend": "remote", "batch_size": 4, "max_retries": 1, "timeout": server.timeout_s}
    remote = LocalCompletionsAPI(model="smollm2", base_url=f"{server.v1}/completions", **said)
    for text in ("The capital of France is Paris.", " x", "Zürich\n\n42"):
        assert remote.tok_encode(text) == model.tok_encode(text)
    assert (remote.eos_string, remote.prefix_token_id) == (model.eos_string, model.prefix_token_id)
    assert remote.eot_token_id == model.eot_token_id
    known = {"task_manager": tasks, "bootstrap_iters": 0, "confirm_run_unsafe_code": False}
    each = [evaluator.simple_evaluate(one, tasks=["llmos_capitals"], **known) for one in (model, remote)]
    first, second = (one["results"]["llmos_capitals"]["acc,none"] for one in each)
    assert first == second


def test_a_likelihood_is_the_same_for_texts_and_for_token_ids(model, server):
    pair = [(" ".join(["The capital of France is"]), " Paris")]
    ids = model.tokenizer(pair[0][0] + pair[0][1])["input_ids"]
    import openai

    with openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s) as client:
        said = {"model": "smollm2", "max_tokens": 0, "echo": True, "logprobs": 1}
        by_text, by_ids = (client.completions.create(prompt=one, **said).choices[0] for one in ("".join(pair[0]), ids))
    assert by_text.text == by_ids.text == "".join(pair[0])
    assert by_text.logprobs.token_logprobs == pytest.approx(by_ids.logprobs.token_logprobs, abs=1e-4)
    assert by_text.logprobs.text_offset == by_ids.logprobs.text_offset
