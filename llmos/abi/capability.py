"""Capabilities: what a call may ask of a model, by its manifest, its base's and its engine. Engines refuse the rest."""

from __future__ import annotations

from llmos.abi.engine import ENGINES, GRAMMAR, JSON_SCHEMA, REGEX, TOOLS, reads
from llmos.abi.model import Kind, Manifest
from llmos.abi.task import Family, all_specs, also_done, is_generative, spec_of

ZERO_SHOT = "zero_shot"  # classify with the call's own labels
BYTE_LEVEL = "gpt2"  # GGUF's name for byte-pair vocabularies
RULES = (JSON_SCHEMA, REGEX, GRAMMAR, TOOLS)


def allowed_tasks(manifest: Manifest) -> tuple[str, ...]:
    """The tasks that a call of this model may name, its own first; its engine may support fewer."""
    if manifest.kind is Kind.BASE and reads(manifest):
        return tuple(map(str, manifest.options["tasks"]))
    return (manifest.task, *also_done(manifest.task))


def tasks_of(manifest: Manifest, engine: str, base: Manifest | None = None) -> tuple[str, ...]:
    """The tasks that this model answers with this engine. `base` is the base of a fine-tune."""
    ground, driver = base or manifest, ENGINES[engine]
    names = set(allowed_tasks(manifest))
    if reads(ground) and is_generative(manifest.task):
        names &= {manifest.task, *map(str, ground.options["tasks"])}
    if driver.tasks and is_generative(manifest.task):
        names &= set(driver.tasks)
    refuses_text = "text" in ground.template.get("refuses", ())
    ordered = sorted(all_specs(), key=lambda one: not one.gives_vectors)
    return tuple(
        one.name
        for one in ordered
        if one.name in names
        and not (one.is_conversation and one.name not in ground.options.get("tasks", (one.name,)))
        and not (one.uses_template and refuses_text)
    )


def capabilities_of(manifest: Manifest, engine: str, base: Manifest | None = None) -> tuple[str, ...]:
    """The tasks that this model answers with this engine, and its further capabilities there.

    These are `zero_shot` (classify with the call's own labels), and for generative models `stream`, `logprobs`, the
    rules `json_schema`, `regex` and `grammar`, and `tools`.
    """
    tasks = tasks_of(manifest, engine, base)
    found, specs = list(tasks), [spec_of(task) for task in tasks]
    if any(one.family is Family.LABELS for one in specs) and not manifest.labels:
        found.append(ZERO_SHOT)
    if any(one.is_generative for one in specs):
        found += [one for one in ENGINES[engine].features if _has(one, tasks, base or manifest, engine)]
    return tuple(found)


def _has(feature: str, tasks: tuple[str, ...], ground: Manifest, engine: str) -> bool:
    if feature in RULES and engine == "llamacpp" and ground.options.get("vocabulary", BYTE_LEVEL) != BYTE_LEVEL:
        return False
    has_conversation = any(spec_of(task).is_conversation for task in tasks)
    return feature != TOOLS or (has_conversation and "tools" not in ground.template.get("refuses", ()))
