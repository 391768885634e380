"""shrink: makes a smaller base of a base: some of its layers, or a table of its tokens' vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmos.abi.device import LeaseKind
from llmos.abi.engine import DEFAULT, check_engine
from llmos.abi.error import BadInput
from llmos.abi.key import KeyScope
from llmos.abi.model import Kind, Manifest, check_name
from llmos.abi.process import Priority, Program, Spec
from llmos.abi.shrinking import shrinking_of
from llmos.kernel.processes.footprint import FootprintFacts, serving_footprint, weights_bytes
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.declaration import AdmissionFacts, Arguments, Declaration
from llmos.kernel.programs.traits import Traits


class Shrink(Declaration):
    """It loads the base, writes the smaller one, and measures both."""

    name = Program("shrink")
    scope = KeyScope.MODELS
    main = "llmos.programs.shrink"
    arguments: ClassVar[Arguments] = {
        "base": Text,
        "layers": Text | int,
        "static": bool,
        "dimensions": int,
        "neighbours": int,
        "name": Text,
    }
    model_argument = "base"
    needs_base = True
    default_priority = Priority.BACKGROUND
    traits = Traits(uses_models=True)

    def check(self, spec: Spec, model: Manifest | None, facts: AdmissionFacts) -> Spec:
        assert model is not None
        check_engine(DEFAULT, model)
        if model.dtype:
            raise BadInput(
                f"{model.ref} is served in {model.dtype}; a smaller base is made of its version in float (llmos ls)",
                key="base",
                model=model.ref,
            )
        name = str(spec.args.get("name") or shrinking_of(spec.args).default_name(model.name))
        check_name(name)
        if any(one.name == name and one.kind is not Kind.BASE for one in facts.store.manifests()):
            raise BadInput(f"{name!r} is the name of a model. Give the base another name", key="name", value=name)
        return replace(spec, args={**spec.args, "name": name})

    def footprint(self, spec: Spec, model: Manifest | None, facts: FootprintFacts) -> dict[LeaseKind, int]:
        assert model is not None
        needs = serving_footprint(model, facts)
        return needs | {LeaseKind.WORKSPACE: needs[LeaseKind.WORKSPACE] + 2 * weights_bytes(model)}

    def title(self, spec: Spec) -> str:
        return f"shrink {spec.args.get('base')} to {spec.args.get('name')}"


PROGRAM = Shrink()
