"""What all parts of a job file share: frozen sections that know their keys, and named problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, model_validator
from pydantic_core import PydanticCustomError


def problem(sentence: str, key: str = "") -> PydanticCustomError:
    """A refusal for a validator to raise; ``key`` names the member of the section it is about."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence, "key": key})


def suggestion(word: object, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` when a known word is close, else an empty string."""
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


class Section(BaseModel):
    """A mapping of the job file. Unknown keys are refused with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    open_ended: ClassVar[bool] = False

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys_only(cls, value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        if isinstance(value, dict) and not cls.open_ended:
            known = list(cls.model_fields)
            for key in value:
                if key not in known:
                    hint = suggestion(key, known)
                    fix = hint or "; remove it."
                    raise problem(f"unknown key{fix} Known here: {', '.join(known)}", str(key))
        return handler(value)
