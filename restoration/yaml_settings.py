"""Training settings from YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

Settings = TypeVar("Settings")


def read_fields(path: Path, kind: type[Settings]) -> dict[str, Any]:
    """The fields that a file names; what it leaves out keeps its default.

    Raises:
        ValueError: the file is not readable YAML, or holds no fields by name.
    """
    try:
        fields: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read ({error}); give a YAML file") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold fields of {kind.__name__} by name")
    return fields


def validated(path: Path, fields: dict[str, Any], kind: type[Settings]) -> Settings:
    """Settings of these fields; `path` is named in the error.

    Raises:
        ValueError: a field is unknown or out of range.
    """
    try:
        return TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
        )
        raise ValueError(f"{path}: {wrong}") from error
