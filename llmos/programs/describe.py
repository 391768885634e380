"""Describes a base from its files: which of them count, its architecture, task, limits, pooling and license.

Of an adapter it only chooses the files; `programs/import_adapter.py` finds its base.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmos.abi.error import BadInput, UnsafeWeights
from llmos.abi.json_type import Json
from llmos.abi.model import Part
from llmos.abi.task import all_specs, open_ended_tasks, spec_of, vector_tasks
from llmos.tasks.encoder_decoder import KINDS, MADE, TASKS

SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
INDEX = "model.safetensors.index.json"
MODULES = "modules.json"  # the modules of a sentence-transformers model, in order
PICKLED = re.compile(r"(pytorch_model.*\.bin|.*\.(pt|pth|pkl|pickle|ckpt))")
MARIAN = ("source.spm", "target.spm")  # the two make a tokenizer, with the ids of vocab.json
TOKENIZER = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "tokenizer_answers.json",
    *MARIAN,
}
VOCABULARY = {"tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"}
CONFIG = {"config.json", "generation_config.json", "sentence_bert_config.json", "1_Pooling/config.json", MODULES, INDEX}
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
LABELS = "labels.txt"  # labels of an ONNX graph, one per line
OTHER = {"README.md", "LICENSE", "LICENSE.txt", "LICENSE.md"}
WRITES = re.compile(r".*(ForConditionalGeneration|MTModel)")  # encoder-decoder architectures that generate
DECODER = re.compile(r".*(ForCausalLM|LMHeadModel)")
POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}
TRIAL_S = 1.0  # of CPU time for each trial conversation of a chat template
NO_LIMIT = 1_000_000  # tokenizers write a huge number for no limit


def choose_files(paths: Iterable[str], where: str) -> list[tuple[str, Part]]:
    """The files of a model folder that make the base, weights first; UnsafeWeights or BadInput if they make none."""
    there = set(paths)
    if is_adapter(there):
        return _adapter(there, where)
    weights = _weights(there, where)
    if weights[0].endswith(".onnx"):
        return _graph(weights, there)
    if weights[0].endswith(".gguf"):
        return [(weights[0], Part.WEIGHTS), *((path, Part.OTHER) for path in sorted(there & OTHER))]
    if "config.json" not in there:
        raise BadInput(
            f"{where} has weights but no config.json. Save the model with save_pretrained, which writes it",
            lacks="config.json",
        )
    if not there & VOCABULARY:
        raise BadInput(
            f"{where} has no tokenizer (tokenizer.json or the like). Save it there: tokenizer.save_pretrained",
            lacks="tokenizer.json",
        )
    parts = ((CONFIG, Part.CONFIG), (TOKENIZER, Part.TOKENIZER), (OTHER, Part.OTHER))
    rest = [(path, part) for names, part in parts for path in sorted(there & names) if path != INDEX]
    shards = [(INDEX, Part.CONFIG)] if len(weights) > 1 or SHARD.fullmatch(weights[0]) else []
    return [*((path, Part.WEIGHTS) for path in weights), *shards, *rest]


def _graph(weights: Sequence[str], there: set[str]) -> list[tuple[str, Part]]:
    """An ONNX graph with its external data, and the files that describe its input and output."""
    beside = [path for path in (f"{weights[0]}.data", f"{weights[0]}_data") if path in there]
    parts = ((CONFIG, Part.CONFIG), (TOKENIZER, Part.TOKENIZER), (OTHER | {LABELS}, Part.OTHER))
    rest = [(path, part) for names, part in parts for path in sorted(there & names) if path != INDEX]
    return [*((path, Part.WEIGHTS) for path in (weights[0], *beside)), *rest]


def is_adapter(paths: Iterable[str]) -> bool:
    """Whether these files are an adapter, and not a base."""
    there = set(paths)
    return ADAPTER_CONFIG in there and not any(path == "model.safetensors" or SHARD.fullmatch(path) for path in there)


def _adapter(there: set[str], where: str) -> list[tuple[str, Part]]:
    """An adapter's weights and settings, and the config beside them, which may have its head's labels."""
    if ADAPTER not in there:
        pickled = sorted(path for path in there if path.startswith("adapter_model") or PICKLED.fullmatch(path))
        if pickled:
            raise UnsafeWeights(
                f"{where} has an adapter with pickled weights ({', '.join(pickled)}), and loading a pickle runs "
                "the code in it. If you trust it, save it again: save_pretrained writes safetensors",
                path=pickled[0],
            )
        raise BadInput(
            f"{where} has {ADAPTER_CONFIG} and no {ADAPTER}. Save the adapter with save_pretrained", lacks=ADAPTER
        )
    beside = [(path, Part.CONFIG) for path in ("config.json",) if path in there]
    beside += [(path, Part.OTHER) for path in sorted(there & OTHER)]
    return [(ADAPTER, Part.ADAPTER), (ADAPTER_CONFIG, Part.CONFIG), *beside]


def _weights(there: set[str], where: str) -> list[str]:
    if "model.safetensors" in there:
        return ["model.safetensors"]
    shards = sorted(path for path in there if SHARD.fullmatch(path))
    if shards:
        if INDEX not in there:
            raise BadInput(
                f"{where} has weights in {len(shards)} pieces but no {INDEX}. Fetch that file too", lacks=INDEX
            )
        return shards
    gguf = sorted(path for path in there if path.endswith(".gguf") and "/" not in path)
    if len(gguf) == 1:
        return gguf
    if gguf:
        raise BadInput(
            f"{where} has {len(gguf)} GGUF files ({', '.join(gguf)}). Put the one to use in its own folder", files=gguf
        )
    graphs = sorted(path for path in there if path.endswith(".onnx") and "/" not in path)
    if len(graphs) == 1 or "model.onnx" in graphs:
        return ["model.onnx" if "model.onnx" in graphs else graphs[0]]
    if graphs:
        raise BadInput(
            f"{where} has {len(graphs)} ONNX graphs ({', '.join(graphs)}). Name the one to use", files=graphs
        )
    pickled = sorted(path for path in there if PICKLED.fullmatch(path))
    if pickled:
        raise UnsafeWeights(
            f"{where} has only pickled weights ({', '.join(pickled)}), and loading a pickle runs the code in it. "
            "If you trust them, convert them: AutoModel.from_pretrained(...).save_pretrained(folder)",
            path=pickled[0],
        )
    raise BadInput(
        f"{where} has no weights. It needs model.safetensors (or its shards) with config.json, one .gguf or one .onnx",
        lacks="model.safetensors",
    )


def part_of(path: str) -> Part:
    """The role of a resident form's file, by its name."""
    if path.endswith(".safetensors"):
        return Part.WEIGHTS
    return Part.TOKENIZER if path in TOKENIZER else Part.CONFIG if path in CONFIG else Part.OTHER


def describe(folder: Path, paths: Sequence[str]) -> dict[str, Json]:
    """The draft of a base's manifest, without the fields that its source sets."""
    if paths[0].endswith(".gguf"):
        return _of_gguf(folder / paths[0], folder)
    config = _json(folder / "config.json")
    architecture = next(iter(config.get("architectures") or []), "") or config.get("model_type", "")
    if not architecture:
        raise BadInput(
            f"{folder / 'config.json'} names no architecture. Save the model with save_pretrained",
            lacks="architectures",
        )
    template, named = _template(folder)
    limits = _limits(folder, config)
    _refuse_unknown(folder, config, architecture)
    if config.get("is_encoder_decoder"):
        _check_marian(config, folder, paths)
        return _of_reader(config, architecture, limits, license_of(folder))
    how = pooling_of(folder)
    tried = tried_template(template, named) if DECODER.fullmatch(architecture) else None
    return _draft(architecture, bool(DECODER.fullmatch(architecture)), tried, limits, license_of(folder), how)


def _check_marian(config: dict[str, Json], folder: Path, paths: Sequence[str]) -> None:
    """Check Marian's files: its vocabulary alone is not a tokenizer."""
    lacking = [name for name in (*MARIAN, "vocab.json") if name not in paths]
    if config.get("model_type") == "marian" and lacking and "tokenizer.json" not in paths:
        raise BadInput(
            f"{folder.name} lacks {' and '.join(lacking)}, of which Marian's tokenizer is made. Fetch what lacks too",
            lacks=lacking,
        )


def _of_reader(config: dict[str, Json], architecture: str, limits: Iterable[Json], license: str) -> dict[str, Json]:
    """An encoder-decoder's draft: its default task is that of most of its kind; it accepts all tasks of such bases."""
    kind = str(config.get("model_type"))
    if kind not in KINDS or not WRITES.fullmatch(architecture):
        raise BadInput(
            f"{architecture} is an encoder with a decoder of a kind that does not run here. There are: "
            f"{', '.join(KINDS)}, each with its next-token layer (T5ForConditionalGeneration, MarianMTModel and the "
            "like)",
            architecture=architecture,
            expected=list(KINDS),
        )
    draft = _draft(architecture, False, None, limits, license, "mean")
    most = draft["options"].get("max_tokens")
    options = {"tasks": list(TASKS)} | ({} if most is None else {"max_tokens": most})
    return draft | {"task": MADE.get(kind, "generate"), "options": options}


def _limits(folder: Path, config: dict[str, Json]) -> list[Json]:
    return [
        _json(folder / "sentence_bert_config.json").get("max_seq_length"),
        _json(folder / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings") or config.get("n_positions"),
    ]


def limits_of(folder: Path, config: dict[str, Json]) -> int | None:
    """The smallest token limit in its files; None if there is none."""
    return _least(_limits(folder, config))


def _least(limits: Iterable[Json]) -> int | None:
    said = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < NO_LIMIT]
    return min(said, default=None)


def _refuse_unknown(folder: Path, config: dict[str, Json], architecture: str) -> None:
    kinds = [str(one.get("type", "")).rpartition(".")[2] for one in _list(folder / MODULES)]
    unknown = [kind for kind in kinds if kind not in KNOWN_MODULES]
    if unknown:
        raise BadInput(
            f"Its vectors pass through {', '.join(unknown)} ({MODULES}), which is not supported here: they would "
            f"differ from its authors'. Pull another base, or a copy without {MODULES} to take it as a plain encoder",
            modules=unknown,
        )


def pooling_of(folder: Path) -> str:
    """The pooling in the base's own config; BadInput for unknown or combined modes."""
    told = _json(folder / "1_Pooling" / "config.json")
    modes = [key for key, value in told.items() if key.startswith("pooling_mode") and value is True]
    if isinstance(told.get("pooling_mode"), str):
        modes = [f"pooling_mode_{told['pooling_mode']}"]
    if not modes:
        return "mean"
    short = {**POOLING, **{f"pooling_mode_{name}": name for name in POOLING.values()}}
    if len(modes) > 1 or modes[0] not in short:
        known = ", ".join(POOLING.values())
        raise BadInput(
            f"It pools by {' and '.join(modes)} (1_Pooling/config.json), and here one of: {known}. Its vectors would "
            "differ from its authors'. Pull another base, or a copy without 1_Pooling to have the mean",
            pooling=modes,
        )
    return short[modes[0]]


def _of_gguf(path: Path, folder: Path) -> dict[str, Json]:
    from llmos.engines.llamacpp.header import check_whole, read_header  # imported late: only GGUF bases need it

    header = read_header(path)
    check_whole(path)
    if not header.architecture:
        raise BadInput(
            f"{path.name} names no architecture. Convert it again, with llama.cpp's convert_hf_to_gguf.py",
            lacks="general.architecture",
        )
    pooled = header.of_model("pooling_type") is not None  # llama.cpp writes it only for embedding models
    draft = _draft(
        header.architecture,
        not pooled,
        None if pooled else tried_template(header.entries.get("tokenizer.chat_template"), {}),
        [header.max_tokens],
        str(header.entries.get("general.license") or license_of(folder)),
        "mean",
    )
    vocabulary = header.entries.get("tokenizer.ggml.model")  # it decides whether llama.cpp can enforce rules
    return draft if vocabulary is None else draft | {"options": draft["options"] | {"vocabulary": str(vocabulary)}}


def _draft(
    architecture: str, is_decoder: bool, tried: Json, limits: Iterable[Json], license: str, pooling: str
) -> dict[str, Json]:
    """`tried` is the result of `tried_template`; a decoder with a working chat template is for chat."""
    options: dict[str, Json] = {
        "pooling": pooling,
        "tasks": tasks_of_encoders(),
    }
    task = "embed"
    if is_decoder:
        chats = tried is not None and "error" not in tried
        task = "chat" if chats else "generate"
        options = {"tasks": [name for name in open_ended_tasks() if chats or not spec_of(name).is_conversation]}
    if (most := _least(limits)) is not None:
        options["max_tokens"] = most
    draft = {"task": task, "architecture": architecture, "license": license, "options": options}
    return draft if tried is None else draft | {"template": tried}


def tasks_of_encoders() -> list[str]:
    """The tasks of an embedding base, without training and with it."""
    trained = [one.name for one in all_specs() if one.is_trainable and not one.is_generative]
    return list(dict.fromkeys((*vector_tasks(), *trained)))


def tried_template(text: str | None, named: dict[str, str]) -> Json:
    """The trials of a chat template with a text, answers, a system text and tools.

    The result has the roles whose text it reads by `parts`, and what it `refuses` with the reason; {"error"} if it does
    not compile; None without a template.
    """
    if text is None:
        return None
    from llmos.nn.text.chat_template import ChatTemplate  # imported late: only models that chat need it

    try:
        return ChatTemplate(text, "it", TRIAL_S).trial(named)
    except BadInput as error:
        return {"error": error.message}


def said_of_template(tried: Json) -> str:
    """A warning about a base's chat template for whoever pulls it; empty if there is no problem."""
    if not tried:
        return ""
    if "error" in tried:
        return f", and does not chat. {tried['error'].replace('template of it', 'template')}"
    if "text" in tried["refuses"]:
        return f", but its chat template refuses a plain text: {tried['refuses']['text']}"
    refused = ", ".join(tried["refuses"])
    return f". Its chat template refuses: {refused} (llmos show says why)" if refused else ""


def _template(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The chat template of a folder, and the special tokens that it may name."""
    about = _json(folder / "tokenizer_config.json")
    named = {key: _content(value) for key, value in about.items() if key.endswith("_token") and value is not None}
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8", errors="replace"), named
    held = about.get("chat_template")
    if isinstance(held, list):  # several templates, by name
        held = next((one.get("template") for one in held if one.get("name") == "default"), None)
    return (held if isinstance(held, str) else None), named


def _content(token: Json) -> str:
    return str(token.get("content", "") if isinstance(token, dict) else token)


def license_of(folder: Path) -> str:
    """The license in the README's front matter, else the first line of LICENSE, else `unknown`."""
    readme = folder / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8", errors="replace")
        matter = re.match(r"\A---\s*\n(.*?)\n---", text, re.DOTALL)
        named = re.search(r"^license:\s*[\"']?([\w.+-]+)", matter.group(1), re.MULTILINE) if matter else None
        if named:
            return named.group(1).lower()
    for name in sorted(OTHER - {"README.md"}):
        if (folder / name).exists():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip()[:80] for line in lines if line.strip()), "unknown")
    return "unknown"


def _json(path: Path) -> dict[str, Json]:
    found = _read(path, {})
    if not isinstance(found, dict):
        raise BadInput(f"{path.name} is not a JSON object. Fetch it again", file=path.name)
    return found


def _list(path: Path) -> list[dict[str, Json]]:
    found = _read(path, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadInput(f"{path.name} is not a list of JSON objects. Fetch it again", file=path.name)
    return found


def _read(path: Path, nothing: Json) -> Json:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return nothing
    except ValueError as error:
        raise BadInput(f"{path.name} is not valid JSON ({error}). Fetch it again", file=path.name) from error
