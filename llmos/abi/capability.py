"""Capabilities: what a call may ask of a model, by its manifest, its base's and its engine. Engines refuse the rest."""

from __future__ import annotations

from llmos.abi.engine import ENGINES, GRAMMAR, JSON_SCHEMA, REGEX, TOOLS, reads
from llmos.abi.model import Kind, Manifest
from llmos.abi.recipe import GENERATIVE, TASKS

ZERO_SHOT = "zero_shot"  # classify by labels that the call brings
BYTE_LEVEL = "gpt2"  # GGUF's word for a vocabulary of byte pairs
RULES = (JSON_SCHEMA, REGEX, GRAMMAR, TOOLS)
ALSO_DOES: dict[str, tuple[str, ...]] = {  # a model that does the one does the others as well
    **{task: tuple(other for other in GENERATIVE if other != task) for task in ("chat", "generate")},
    "embed": ("similarity", "rerank", "classify"),
    "similarity": ("embed", "rerank", "classify"),
}
ORDER = ("embed", *TASKS)


def allowed_tasks(manifest: Manifest) -> tuple[str, ...]:
    """The tasks that a call of this model is let through with, its own first; its engine may do fewer."""
    if manifest.kind is Kind.BASE and reads(manifest):
        return tuple(map(str, manifest.options["tasks"]))
    return (manifest.task, *ALSO_DOES.get(manifest.task, ()))


def tasks_of(manifest: Manifest, engine: str, base: Manifest | None = None) -> tuple[str, ...]:
    """The tasks that this model answers with this engine. `base`: of a model, what it stands on."""
    ground, driver = base or manifest, ENGINES[engine]
    may = set(allowed_tasks(manifest))
    if reads(ground) and manifest.task in GENERATIVE:
        may &= {manifest.task, *map(str, ground.options["tasks"])}
    if driver.tasks and manifest.task in GENERATIVE:
        may &= set(driver.tasks)
    if "chat" not in ground.options.get("tasks", ("chat",)):  # conversations have no template
        may.discard("chat")
    if "text" in ground.template.get("refuses", ()):  # orders are put into one
        may -= {"chat", "summarize", "translate"}
    return tuple(task for task in ORDER if task in may)


def capabilities_of(manifest: Manifest, engine: str, base: Manifest | None = None) -> tuple[str, ...]:
    """The tasks that this model answers with this engine, and what else a call may ask of it there:

    `zero_shot` (classify by labels that the call brings), and of those that write `stream`, `logprobs`, the rules
    `json_schema`, `regex` and `grammar`, and `tools`.
    """
    tasks = tasks_of(manifest, engine, base)
    found = list(tasks)
    if "classify" in tasks and not manifest.labels:
        found.append(ZERO_SHOT)
    if set(tasks) & set(GENERATIVE):
        found += [one for one in ENGINES[engine].features if _has(one, tasks, base or manifest, engine)]
    return tuple(found)


def _has(feature: str, tasks: tuple[str, ...], ground: Manifest, engine: str) -> bool:
    if feature in RULES and engine == "llamacpp" and ground.options.get("vocabulary", BYTE_LEVEL) != BYTE_LEVEL:
        return False
    return feature != TOOLS or ("chat" in tasks and "tools" not in ground.template.get("refuses", ()))
