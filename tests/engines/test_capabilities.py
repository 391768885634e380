"""What models are said to do, held against what engines truly take: that is answered, and whatever else is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import pytest

pytest.importorskip("torch")

from driving import drain

from llmos.abi.call import Call
from llmos.abi.capability import ZERO_SHOT, capabilities_of
from llmos.abi.engine import ALL, GRAMMAR, JSON_SCHEMA, LOGPROBS, REGEX, STREAM, TOOLS
from llmos.abi.error import LlmosError, TooLong
from llmos.abi.frame import ModelPath
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.abi.task import BUILT_IN, generative_tasks
from llmos.engines import Engine, driver
from llmos.kernel.calls.call_service import task_of
from llmos.nn.adapters.head import SequenceHead, TokenHead, save_head
from llmos.programs.describe import choose_files, describe
from llmos.testing import adapters, tiny

pytestmark = pytest.mark.torch

FAKE_VLLM = f"{sys.executable} -m llmos.testing.openai_server"
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + tiny.CHAT_TEMPLATE
)
KNOWING = (
    "{% if tools %}{{ tools | tojson }} <tool_call>name, arguments</tool_call>{% endif %}"
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}"
)
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
INPUTS = {
    "answer": {"question": "who?", "passage": "ada did"},
    "rerank": {"query": "who?", "documents": ["ada", "bob"]},
    "similarity": {"text": "one", "other": "two"},
    "chat": HELLO,
}
FEATURES = {
    JSON_SCHEMA: {"json_schema": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}},
    REGEX: {"regex": "a|b"},
    GRAMMAR: {"grammar": 'start: "a" | "b"'},
    LOGPROBS: {"logprobs": True},
}


@dataclass(frozen=True)
class Subject:
    """A model in its engine; `base` is what it stands on, if it is none itself."""

    name: str
    engine: Engine
    manifest: Manifest
    base: Manifest | None = None

    @property
    def said(self) -> tuple[str, ...]:
        return capabilities_of(self.manifest, self.name, self.base)

    def takes(self, one: str) -> bool:
        """Whether what is asked so is answered: a task by its name, or one of what else a call may ask."""
        if one in BUILT_IN:
            labels = {} if self.manifest.labels else {"labels": ["good", "bad"]}
            ways = {"classify": [{}, labels], "translate": [{}, {"target_language": "German"}]}
            return any(self.is_answered(one, params) for params in ways.get(one, [{}]))
        if one == ZERO_SHOT:
            return self.is_answered("classify", {"labels": ["good", "bad"]})
        if one == TOOLS:
            return self.is_answered("chat", {}, tools=[LOOK], tool_choice="required")
        task = "generate" if "generate" in self.said else self.manifest.task
        return self.is_answered(task, FEATURES.get(one, {}), stream=one == STREAM)

    def is_answered(self, task, params, stream=False, **more):
        if task in generative_tasks():
            params = {"max_tokens": 60 if more or params else 4, "temperature": 0} | params
        one = INPUTS.get(task, "hello")
        call = Call(1, self.manifest.ref, task, (one | more if more else one,), params, stream=stream)
        try:
            task_of(self.manifest, task)
            self.engine.add(call)
            chunks = drain(self.engine)
        except TooLong:  # which says nothing of what it can do
            raise
        except LlmosError:
            return False
        if chunks[-1].fault is not None:
            return False
        assert "logprobs" not in params or chunks[-1].outputs[0]["logprobs"]
        assert not more or chunks[-1].outputs[0]["message"]["tool_calls"]
        return True


def described(name, folder, files=(), **fields):
    """A base as its pull describes it."""
    paths = [path.name for path in sorted(folder.iterdir())]
    held = tuple(File(path, "0" * 64, 1, part) for path, part in choose_files(paths, name))
    draft = describe(folder, [file.path for file in held])
    return Manifest(name, 1, Kind.BASE, files=held, **draft | fields)


def loaded(name, base, folder, **more):
    engine = driver(name, 512, 1 << 22, **more)
    engine.load(ModelPath(base, str(folder)), "cuda0" if name == "vllm" else "cpu0", "float32", 1)
    return Subject(name, engine, base)


def decoder(folder, template):
    tiny.write(folder, "llama")
    for file, said in (
        ("config.json", {"max_position_embeddings": 2048}),
        ("tokenizer_config.json", {"chat_template": template}),
    ):
        about = json.loads((folder / file).read_text()) | said
        (folder / file).write_text(json.dumps({key: value for key, value in about.items() if value is not None}))
    return folder


def writer(template, engine="pytorch", **more):
    def made(root):
        folder = decoder(root / "llama", template)
        return loaded(engine, described("talk", folder), folder, **more)

    return made


def plain(architecture):
    def made(root):
        folder = tiny.write(root / architecture, architecture)
        return loaded("pytorch", described("plain", folder), folder)

    return made


def trained(task, architecture="bert", labels=()):
    """A model that stands on a base by an adapter, with the head of its task."""

    def made(root):
        folder = root / architecture
        if architecture in tiny.DECODERS:
            decoder(folder, tiny.CHAT_TEMPLATE)
        else:
            tiny.write(folder, architecture)
        base = loaded("pytorch", described("plain", folder), folder)
        names = ("q_proj", "v_proj", "query", "value")
        beside = adapters.write(root / "adapter", tiny.plain(architecture), targets=names)
        count = len(labels)
        if labels:
            save_head((TokenHead if task in ("tag", "answer") else SequenceHead)(32, count), beside)
        manifest = Manifest("mine", 1, Kind.MODEL, task, (), base="plain:1", method="lora", labels=labels)
        base.engine.attach(ModelPath(manifest, str(beside), base=ModelPath(base.manifest, str(folder))))
        return Subject("pytorch", base.engine, manifest, base.manifest)

    return made


def null(task, **fields):
    def made(root):
        manifest = Manifest(
            "talk", 1, Kind.BASE, task, (File("model.safetensors", "0" * 64, 1, Part.WEIGHTS),), **fields
        )
        return loaded("null", manifest, root)

    return made


def llamacpp(root):
    """Its vocabulary is SentencePiece's, with which llama.cpp keeps to no rule."""
    pytest.importorskip("xllamacpp", reason="the extra gguf is not installed")
    from llmos.testing.tiny_gguf import write_gguf

    write_gguf(root / "tiny.gguf", max_tokens=2048)
    return loaded("llamacpp", described("talk", root), root)


def graph(task):
    def made(root):
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        pytest.importorskip("onnx", reason="the tools for tests are not installed")
        from llmos.testing.tiny_onnx import LABELS, write_onnx

        write_onnx(root, task)
        files = (File("model.onnx", "0" * 64, 1, Part.WEIGHTS),)
        options = {"engine": "onnx", "tasks": [task]}
        manifest = Manifest("graph", 1, Kind.BASE, task, files, labels=LABELS[task], options=options)
        return loaded("onnx", manifest, root)

    return made


SUBJECTS = {
    "null embed": null("embed"),
    "null classify": null("classify", labels=("good", "bad")),
    "null chat": null("chat"),
    "encoder": plain("bert"),
    "decoder": writer(tiny.CHAT_TEMPLATE),
    "decoder whose template knows tools": writer(KNOWING),
    "decoder without a template": writer(None),
    "decoder whose template is broken": writer("{% if %}"),
    "decoder whose template refuses systems": writer(NO_SYSTEM),
    "decoder whose template refuses all": writer("{{ raise_exception('no') }}"),
    "t5": plain("t5"),
    "bart": plain("bart"),
    "trained classify": trained("classify", labels=("good", "bad")),
    "trained tag": trained("tag", labels=("O", "B-A", "I-A")),
    "trained similarity": trained("similarity"),
    "trained generate": trained("generate", "llama"),
    "trained generate on a reader": trained("generate", "bart"),
    "trained summarize on a reader": trained("summarize", "bart"),
    "llamacpp": llamacpp,
    "vllm": writer(tiny.CHAT_TEMPLATE, "vllm", command=FAKE_VLLM),
    "onnx embed": graph("embed"),
    "onnx classify": graph("classify"),
    "onnx tag": graph("tag"),
}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request, tmp_path_factory):
    found = SUBJECTS[request.param](tmp_path_factory.mktemp("base"))
    yield found
    found.engine.close()


def test_what_it_is_said_to_do_is_answered_and_all_else_is_refused(subject):
    writes = bool({*subject.said} & {*generative_tasks()})
    asked = [*BUILT_IN, ZERO_SHOT, *(ALL if writes else ())]  # what else there is asks for a text
    assert {one: subject.takes(one) for one in asked} == {one: one in subject.said for one in asked}


def test_each_is_said_once_and_tasks_come_first(subject):
    assert len(subject.said) == len({*subject.said})
    tasks = [one in BUILT_IN for one in subject.said]
    assert tasks == sorted(tasks, reverse=True)
