"""`reelweave schema`: the JSON Schema of the job file, for editors that complete and check YAML.

It is made from the models that validate job files, so it refuses nothing that they take. What depends on
several members at once (a codec and its container, a solver and its degradation) only `reelweave plan` knows.
"""

from __future__ import annotations

import json
from typing import Any

from jobs.console import DONE
from jobs.spec import JobSpec

#: The name that the first line of `reelweave init`'s job file gives to the schema beside it.
FILE_NAME = "reelweave.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def command() -> int:
    """Print the schema on stdout."""
    print(schema_text(), end="")
    return DONE


def schema_text() -> str:
    """The schema as indented JSON, a whole file."""
    return json.dumps(job_schema(), indent=2) + "\n"


def job_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a job file; sections are described by the docstrings of their models."""
    found: dict[str, Any] = _portable(JobSpec.model_json_schema())
    return {"$schema": _DIALECT, **found, "title": "reelweave job file"}


def _portable(node: Any) -> Any:
    """``node`` without OpenAPI's ``discriminator``, which JSON Schema does not know and which pydantic does
    not write validly where one union of models is a member of another."""
    if isinstance(node, list):
        return [_portable(item) for item in node]
    if isinstance(node, dict):
        return {name: _portable(value) for name, value in node.items() if name != "discriminator"}
    return node
