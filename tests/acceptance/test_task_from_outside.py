"""A task that a package brings: trained, gated, served, asked and documented with no line of llmos changed."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.acceptance

TREE = Path(__file__).parents[2]
TASK = '''"""language: which language a text is in."""

from dataclasses import replace

from llmos.abi.task import TaskSetting
from llmos.tasks.classify import Classify


class Language(Classify):
    spec = replace(
        Classify.spec,
        name="language",
        about="Which language a text is in.",
        primary_metric="least_recall",
        metric="language_metric:least_recall",
        settings=(*Classify.spec.settings, TaskSetting("dialects", bool, "Tell dialects apart.")),
        example_input="Guten Morgen",
        example_output={"label": "de", "score": 0.99, "scores": {"de": 0.99, "en": 0.01}},
    )


TASK = Language()
'''
METRIC = '''"""The recall of the language that is recalled worst."""

from collections import Counter


def least_recall(rows, predictions, settings):
    there, right = Counter(), Counter()
    for row, one in zip(rows, predictions, strict=True):
        (label,) = row.labels
        there[label] += 1
        right[label] += settings.labels[int(one.probabilities.argmax())] == label
    return min(right[label] / count for label, count in there.items())
'''
SENTENCES = {  # of each language who, and what they do; every pair is a sentence
    "en": """
The dog of our neighbour | My sister and her husband | The man with the old hat | One of the children
was in the garden the whole day.
has not been to the city for a long time.
will be here with us.
does not know what to do about it.
came home before it was dark.
wants to read that book again.
is the one who said it to me.
had to wait for the next train.
""",
    "de": """
Der Hund von unserem Nachbarn | Meine Schwester mit ihrem Mann | Der Mann mit dem alten Hut | Das Kind
war den ganzen Tag im Garten.
ist schon lange nicht mehr in der Stadt gewesen.
wird bald bei uns sein.
weiß nicht, was man damit machen soll.
kam nach Hause, bevor es dunkel wurde.
will das Buch lesen.
hat es mir und den anderen gesagt.
musste auf den nächsten Zug warten.
""",
    "fr": """
Le chien de notre voisin | Ma sœur avec son mari | L'homme avec le vieux chapeau | Un des enfants
était dans le jardin toute la journée.
n'est pas allé en ville depuis longtemps.
sera ici avec nous.
ne sait pas ce qu'il faut en faire.
est rentré à la maison avant la nuit.
veut lire ce livre.
est celui qui me l'a dit.
a dû attendre le prochain train.
""",
    "es": """
El perro de nuestro vecino | Mi hermana con su marido | El hombre con el sombrero viejo | Uno de los niños
estuvo en el jardín todo el día.
no ha ido a la ciudad desde hace mucho tiempo.
estará aquí con nosotros.
no sabe qué hacer con eso.
llegó a casa antes de que fuera de noche.
quiere leer ese libro otra vez.
es el que me lo dijo a mí.
tuvo que esperar el próximo tren.
""",
}
CLIENT = """
import json, sys
from llmos import Client
with Client(sys.argv[1]) as client:
    one = client.run("tongue", "Das ist der Hund, den wir im Garten mit den Kindern gesehen haben.")
    process = next(p for p in client.processes() if p.spec.title == "train tongue")
    model = client.model("tongue")
print(json.dumps([type(one).__name__, one.label, process.spec.need_bytes, dict(model.metrics)]))
"""


@pytest.fixture
def package(tmp_path):
    """The path of a package with the task `language`, laid out as pip would install it."""
    folder = tmp_path / "packages"
    info = folder / "language-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: language\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llmos.tasks]\nlanguage = language_task:TASK\n")
    (folder / "language_task.py").write_text(TASK)
    (folder / "language_metric.py").write_text(METRIC)
    return f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


def sentences():
    """Each sentence with its language."""
    for language, text in SENTENCES.items():
        who, *does = text.strip().splitlines()
        yield from ((f"{one} {other}", language) for one, other in product(who.split(" | "), does))


def python(package, code, *words):
    """What a program that has the package prints."""
    command, environ = [sys.executable, "-c", code, *words], {**os.environ, "PYTHONPATH": package}
    done = subprocess.run(command, env=environ, cwd=TREE, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_a_task_from_outside_is_trained_gated_and_served(new_house, starters, package, tmp_path):
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")

    def llmos(*words):
        done = new_house(*words, PYTHONPATH=package)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    data = tmp_path / "rows.tsv"
    data.write_text("".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *sentences()]))
    assert "Tell dialects apart." in llmos("train", "--help")

    llmos("up")
    settings = ("--epochs", "3", "--batch-size", "8", "--learning-rate", "3e-4", "--min-metric", "0.5", "--dialects")
    said = llmos("train", "language", "--data", str(data), "--name", "tongue", *settings)
    assert "tongue:1 is promoted" in said
    assert "least_recall" in said  # by which it was decided

    kind, label, need_bytes, metrics = json.loads(python(package, CLIENT, new_house.url))
    assert (kind, label, need_bytes > 0) == ("Classified", "de", True)
    assert next(iter(metrics)) == "least_recall"
    assert metrics["least_recall"] >= 0.5
    assert "least_recall" in llmos("eval", "tongue", "--data", str(data))
    assert llmos("run", "tongue", "Le livre que nous avons lu est dans le jardin avec les enfants.").startswith("fr ")

    body = {"model": "tongue", "inputs": ["The children were in the garden and we had to wait.", "¿Qué es eso?"]}
    answer = httpx.post(f"{new_house.url}/v1/tasks/language", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["task"], answer.json()["outputs"][0]["label"]) == ("language", "en")
    refused = httpx.post(f"{new_house.url}/v1/tasks/classify", json=body, timeout=60)
    assert refused.json()["error"]["code"] == "wrong_task"

    document = httpx.get(f"{new_house.url}/openapi.json", timeout=60).json()
    operation = document["paths"]["/v1/tasks/{task}"]["post"]
    (parameter,) = operation["parameters"]
    assert "language" in parameter["schema"]["enum"]
    assert operation["requestBody"]["content"]["application/json"]["examples"]["language"]["value"]["input"]
    assert "| `language` | labels | Which language a text is in. | `least_recall` |" in python(
        package, "import docs.build as build; print(build.tasks())"
    )
