"""Models as Ollama's clients list and show them."""

from __future__ import annotations

from hashlib import sha256

from llmos.abi.api_types import ModelView
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest, Part

WORDS = {"chat": "completion", "generate": "completion", "tools": "tools", "embed": "embedding"}


def list_entry(view: ModelView) -> dict[str, Json]:
    """A model in a list: its name, size and kind. The digest is that of its files' digests."""
    manifest = view.manifest
    return {
        "name": manifest.ref,
        "model": manifest.ref,
        "modified_at": manifest.created_at or None,
        "size": manifest.size_bytes,
        "digest": sha256("".join(file.digest for file in manifest.files).encode()).hexdigest(),
        "details": _details(manifest),
    }


def details(view: ModelView) -> dict[str, Json]:
    """One model. What Ollama keeps in a Modelfile is not there."""
    manifest = view.manifest
    info: dict[str, Json] = {"general.architecture": manifest.architecture}
    if "max_tokens" in manifest.options:
        info[f"{manifest.architecture}.context_length"] = manifest.options["max_tokens"]
    return {
        "license": manifest.license,
        "modified_at": manifest.created_at or None,
        "details": _details(manifest),
        "model_info": info,
        "capabilities": list(dict.fromkeys(WORDS[one] for one in view.capabilities if one in WORDS)),
    }


def _details(manifest: Manifest) -> dict[str, Json]:
    weights = [file.path for file in manifest.files if file.part is Part.WEIGHTS]
    return {
        "parent_model": manifest.base or "",
        "format": weights[0].rpartition(".")[2] if weights else "",
        "family": manifest.architecture,
        "families": [manifest.architecture],
        "quantization_level": manifest.dtype,
    }
