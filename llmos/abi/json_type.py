"""The type of a JSON value."""

from __future__ import annotations

from typing import Any

Json = Any  # Any: null, bool, number, text, list or object; its receiver checks it against a schema
