"""An encoder with a decoder through the real daemon: a T5 learns from nothing how dates are written, and is asked."""

import json

import httpx
import openai
import pytest
from conftest import computed_in, is_hit

from llmos.testing import dates
from llmos.testing.errors import answers_with

pytestmark = pytest.mark.acceptance

RUN = ("--batch-size", "16", "--seed", "7", "--set", "token_budget=256")
FULL = (*RUN, "--epochs", "14", "--learning-rate", "1e-2", "--set", "target_language=English", "--method", "full")
LORA = (*RUN, "--epochs", "14", "--learning-rate", "1e-2", "--set", "target_language=German", "--method", "lora")
CITY = {
    "type": "object",
    "properties": {"day": {"type": "integer"}},
    "required": ["day"],
    "additionalProperties": False,
}


def learnt(house, folder, form, base, *how):
    """A version that was trained on a form's rows, and how many of the days it has not seen it writes right."""
    train, test = dates.write_rows(folder, form)
    done = house("train", "translate", "--data", str(train), "--test", str(test), "--name", form, "--base", base, *how)
    assert done.returncode == 0, done.stderr
    assert f"{form}:1 is promoted" in done.stdout
    return house.json("show", form)["evidence"]["metrics"]["exact_match"]


def written(house, model, asked, task="translate", **params):
    body = {"model": model, "inputs" if isinstance(asked, list) else "input": asked, "params": params}
    answer = httpx.post(f"{house.url}/v1/tasks/{task}", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return [one["text"] for one in answer.json()["outputs"]]


@pytest.fixture(scope="module")
def writing(house, tmp_path_factory):
    """A daemon with two models: one that learnt English dates whole, and on that one an adapter for German ones."""
    return _taught(house, tmp_path_factory.mktemp("dates"))


@pytest.fixture(scope="module")
def same(writing):
    """Whether texts are those that were written before: in float32 to the letter, in bfloat16 as many (docs/api.md,
    seeds)."""
    is_exact = computed_in(writing) == "float32"
    return lambda texts, wanted: texts == wanted if is_exact else len(texts) == len(wanted) and all(texts)


def _taught(house, root):
    assert house("pull", str(dates.write_t5(root / "t5")), "--name", "fresh").returncode == 0
    assert learnt(house, root, "english", "fresh", *FULL) > 0.8
    again = house("pull", str(house.home / "models" / "english" / "1"), "--name", "calendar")
    assert again.returncode == 0, again.stderr
    assert learnt(house, root, "german", "calendar", *LORA) > 0.8
    return house


def test_unseen_days_are_written_in_each_models_words_also_after_a_kill(writing, same):
    days = list(dates.held_out("english"))

    def right(model):
        said = written(writing, model, days)
        right = sum(one == wanted for one, wanted in zip(said, dates.held_out(model).values(), strict=True))
        assert right > 0.8 * len(days)
        return said

    before = {model: right(model) for model in ("english", "german")}
    bare = written(writing, "calendar", days, target_language="German")  # the adapter's base, of the same process
    assert sum(one == wanted for one, wanted in zip(bare, dates.held_out("german").values(), strict=True)) == 0
    assert same([writing("run", "english", days[0]).stdout.strip()], before["english"][:1])
    with writing.client() as box:
        for process in box.processes():
            if process.spec.title in ("serve fresh:1", "serve calendar:1"):
                is_hit(process.os_pid)
    for model, said in before.items():
        assert same(right(model), said)


def test_openai_s_client_continues_what_the_encoder_reads(writing, same):
    (day,), told = list(dates.held_out("english"))[:1], "translate to English: "
    (wanted,) = written(writing, "calendar", [day], target_language="English")  # the base: it generates as well
    with openai.OpenAI(base_url=f"{writing.url}/v1", api_key="none", max_retries=0, timeout=120) as client:

        def ask(**said):
            return client.completions.create(
                **{"model": "calendar", "prompt": told + day, "temperature": 0, "max_tokens": 12} | said
            )

        two = ask(n=2, logprobs=2)
        assert same([one.text for one in two.choices], [wanted, wanted])
        assert len(two.choices[0].logprobs.top_logprobs[0]) == 2
        assert two.usage.prompt_tokens == 8
        assert same(["".join(piece.choices[0].text for piece in ask(stream=True))], [wanted])
        (number, month) = wanted.split()
        assert same([ask(stop=month).choices[0].text.strip()], [number])
        with answers_with(openai.BadRequestError, "wrong_task", model="calendar:1", task="chat"):
            client.chat.completions.create(model="calendar", messages=[{"role": "user", "content": day}])
    (shaped,) = written(writing, "calendar", f"{told}{day}", "generate", json_schema=CITY, max_tokens=40)
    assert isinstance(json.loads(shaped)["day"], int)


def test_what_is_too_long_or_empty_is_refused_and_its_neighbours_are_answered(writing, same):
    days = list(dates.held_out("english"))[:2]
    (wanted,) = written(writing, "english", days[:1])
    for asked, said in (("01-02 " * 40, "tokens; the model takes 64"), (" ", "The text is empty")):
        body = {"model": "english", "input": asked}
        answer = httpx.post(f"{writing.url}/v1/tasks/translate", json=body, timeout=120)
        assert answer.status_code in (400, 413, 422), answer.text
        assert said in answer.text
    assert same(written(writing, "english", days[:1]), [wanted])
    assert written(writing, "fresh", days[:1], "summarize", max_tokens=8) != [wanted]
