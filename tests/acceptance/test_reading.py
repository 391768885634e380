"""Texts compared and passages read by the real encoder: as it comes, with a call's labels, and trained to answer."""

import json
import random

import httpx
import pytest

pytestmark = pytest.mark.acceptance

DOCUMENTS = [
    "Our shop in Leeds opens at nine in the morning and closes at six.",
    "You may send any item back within thirty days and get your money returned.",
    "We make our chairs from oak that grows nearby.",
]
THINGS = ("lamp", "table", "kettle", "carpet", "mirror", "sofa", "clock", "bench", "shelf", "basket")
PLACES = ("Leeds", "York", "Bath", "Dover", "Oxford", "Derby", "Ripon", "Truro", "Wells", "Ely")
PASSAGE = "The {thing} was made in {place} by {name} and costs {price} pounds."
NAMES = ("Ada Finch", "Omar Reed", "Ines Holt", "Per Lund", "Kei Mori", "Lena Voss", "Tom Agar", "Zoe Hale")
QUESTIONS = {
    "Where was the {thing} made?": "{place}",
    "Who made the {thing}?": "{name}",
    "What does the {thing} cost?": "{price} pounds",
    "When was the {thing} sold?": "",
}


def ask(house, task, body):
    answer = httpx.post(f"{house.url}/v1/tasks/{task}", json={"model": "minilm", **body}, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"]


def test_the_base_ranks_documents_compares_texts_and_classifies_without_training(minilm):
    asked = {"query": "How do I get a refund?", "documents": DOCUMENTS}
    (ranking,) = ask(minilm, "rerank", {"input": asked, "params": {"return_documents": True, "top_n": 2}})
    assert (ranking[0]["index"], ranking[0]["document"], len(ranking)) == (1, DOCUMENTS[1], 2)
    near = {"text": "The parcel has not come.", "other": "My delivery never arrived."}
    far = {"text": "The parcel has not come.", "other": "This soup needs more salt."}
    close, distant = (one["score"] for one in ask(minilm, "similarity", {"inputs": [near, far]}))
    assert close > 0.4 > distant
    texts = ["The striker scored twice in the final.", "Shares of the bank fell after its results."]
    answers = ask(minilm, "classify", {"inputs": texts, "params": {"labels": ["sports", "business", "weather"]}})
    assert [one["label"] for one in answers] == ["sports", "business"]
    said = minilm("run", "minilm", texts[0], "--labels", "sports,business,weather")
    assert said.stdout.startswith("sports "), said.stderr


def squad(rows, chance):
    """Passages about made-up things with two questions each, one in four of which the passage does not answer."""
    paragraphs = []
    for number in range(rows):
        facts = {
            "thing": chance.choice(THINGS),
            "place": chance.choice(PLACES),
            "name": chance.choice(NAMES),
            "price": str(chance.randint(3, 400)),
        }
        passage = PASSAGE.format(**facts)
        qas = []
        for question in chance.sample(sorted(QUESTIONS), 2):
            text = QUESTIONS[question].format(**facts)
            answers = [{"text": text, "answer_start": passage.index(text)}] if text else []
            qas.append({"id": f"{number}-{len(qas)}", "question": question.format(**facts), "answers": answers})
        paragraphs.append({"context": passage, "qas": qas})
    return {"version": "v2.0", "data": [{"title": "things", "paragraphs": paragraphs}]}


def test_questions_about_a_passage_are_learned_and_answered_with_their_place(minilm, tmp_path):
    path = tmp_path / "things.json"
    path.write_text(json.dumps(squad(80, random.Random(5))))
    settings = ("--method", "full", "--epochs", "5", "--learning-rate", "2e-4", "--name", "things", "--seed", "7")
    done = minilm("train", "answer", "--data", str(path), *settings)
    assert done.returncode == 0, done.stderr
    assert "things:1 is promoted" in done.stdout
    evidence = minilm.json("show", "things")["evidence"]["metrics"]
    assert next(iter(evidence)) == "f1"
    assert evidence["f1"] > 0.6
    passage = "Some words before it all. " * 60 + PASSAGE.format(
        thing="kettle", place="York", name="Per Lund", price=42
    )
    (tmp_path / "passage.txt").write_text(passage)
    asked = ("run", "things", "Where was the kettle made?", "--file", str(tmp_path / "passage.txt"), "--json")
    (said,) = json.loads(minilm(*asked).stdout)
    assert said["no_answer"] <= 1
    if said["text"]:
        assert passage[said["start"] : said["end"]] == said["text"]
    report = httpx.get(f"{minilm.url}/v1/models/things/report", timeout=60)
    assert "exact match" in report.text
