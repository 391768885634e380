"""Which method a run with `method: auto` trains by: decided once its rows are read, and told to the kernel.

The kernel keeps it with the process's arguments, so that a resumed run has the method it began with, and leases the
memory that this method needs.
"""

from __future__ import annotations

from dataclasses import replace

from llmos.abi.auto_method import AUTO, MethodFacts, choose_method
from llmos.abi.frame import ModelPath
from llmos.abi.model import Part
from llmos.abi.recipe import Recipe, needs_frozen_base
from llmos.abi.shrinking import is_table
from llmos.programs.channel import Channel
from llmos.programs.children import Children


def with_method(channel: Channel, recipe: Recipe, rows: int, base: ModelPath) -> Recipe:
    """The recipe with a method, and why it was chosen; as it is if it names one. Stopped if the process is to end."""
    chosen = chosen_method(recipe, rows, base)
    if chosen is not recipe:
        print(chosen.method_why, flush=True)
        Children(channel).settle({"method": chosen.method, "method_why": chosen.method_why})
    return chosen


def chosen_method(recipe: Recipe, rows: int, base: ModelPath) -> Recipe:
    """The recipe with the method that the rule chooses for these labelled rows; as it is if it names one."""
    if recipe.method != AUTO:
        return recipe
    facts = MethodFacts(
        recipe.task,
        rows,
        sum(file.size_bytes for file in base.manifest.files if file.part is Part.WEIGHTS),
        is_static=is_table(base.manifest.architecture),
        needs_frozen_base=needs_frozen_base(recipe),
    )
    choice = choose_method(facts)
    return replace(recipe, method=choice.method, method_why=choice.sentence)
