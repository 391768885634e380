"""What a child gets beside the model its arguments name: that model in int8, the promoted version, its dataset."""

from __future__ import annotations

from llmos.abi.error import BadInput, NotFound
from llmos.abi.form import INT8, form_dtype
from llmos.abi.frame import ModelPath
from llmos.abi.model import Manifest
from llmos.kernel.store.store import Store


def in_int8(manifest: Manifest, store: Store, floats: str) -> dict[str, ModelPath]:
    """The int8 version of a base, or of a model's base, where there is one, beside what computes in `floats`."""
    found = store.in_dtype(manifest.base or manifest.ref, INT8)
    return {} if found is None else {INT8: store.located(found, form_dtype(INT8, floats))}


def promoted(name: str, store: Store, dtype: str | None = None) -> dict[str, ModelPath]:
    """The promoted version of this name, where there is one."""
    version = store.promoted(name)
    return {} if version is None else {"promoted": store.located(f"{name}:{version}", dtype)}


def training_dataset(manifest: Manifest, store: Store) -> dict[str, str]:
    """The dataset that a model was trained on, if it is still here: nothing is compared on rows that one side knows."""
    ref = manifest.lineage.get("dataset")
    try:
        return {str(ref): str(store.dataset_folder(str(ref)))}
    except (NotFound, BadInput):
        return {}
