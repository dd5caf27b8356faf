"""Errors as the outside sees them: RFC 9457 problem documents, and pydantic's errors in words that help.

Never put a secret, a stack trace or a whole input into a problem: only where it is wrong and what to do.
"""

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from schemas.document import Part
from schemas.times import Instant

__all__ = ["CLOCK_SKEW", "FieldError", "Problem", "explain", "nearest"]

CLOCK_SKEW = "urn:nrgkick-cloud:clock-skew"
"""Type of the problem that answers a post whose times do not fit the server's clock."""


class FieldError(Part):
    """One mistake in an input: where (keys and indices from the top) and what."""

    loc: list[str | int] = Field(description="path to the mistake, from the top of the document")
    msg: str = Field(description="what is wrong and what would be right")


class Problem(Part):
    """An RFC 9457 problem document, `application/problem+json`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(None, description="where an input was invalid")
    server_time: Instant | None = Field(None, description="with clock-skew: the server's time")


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    import difflib  # here, for a pusher that makes no mistake never needs it

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return found[0] if found else None


def explain(error: ValidationError, model: type[BaseModel]) -> list[FieldError]:
    """Turn pydantic's errors into ours: clean paths, and the nearest known key for an unknown one."""
    return list(_explained(error, model))


def _explained(error: ValidationError, model: type[BaseModel]) -> Iterator[FieldError]:
    for item in error.errors(include_url=False, include_input=False):
        loc = [part for part in item["loc"] if part != "[key]"]
        if item["type"] == "extra_forbidden":
            key = str(loc[-1])
            known = sorted(_fields_at(model, loc[:-1]))
            meant = nearest(key, known)
            hint = f'; did you mean "{meant}"?' if meant else f"; known keys: {', '.join(known)}"
            yield FieldError(loc=_short(loc), msg=f'unknown key "{key[:80]}"{hint}')
        elif item["type"] == "literal_error" and item["loc"][-1:] == ("[key]",):
            yield FieldError(loc=_short(loc), msg=f"no such index here; {item['msg'].replace('Input s', 's')}")
        elif item["type"] in ("model_type", "dict_type", "model_attributes_type"):
            yield FieldError(loc=_short(loc), msg="should be an object")
        else:
            message = item["msg"].removeprefix("Value error, ")
            yield FieldError(loc=_short(loc), msg=message[:1].lower() + message[1:])


def _short(loc: Sequence[str | int]) -> list[str | int]:
    return [part[:80] if isinstance(part, str) else part for part in loc]


def _fields_at(annotation: Any, loc: Sequence[str | int]) -> set[str]:
    """Keys that are known at `loc` below a model, a mapping, a list or a union of these."""
    if get_origin(annotation) is Annotated:
        return _fields_at(get_args(annotation)[0], loc)
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*(_fields_at(choice, loc) for choice in get_args(annotation)))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        if not loc:
            return set(fields)
        return _fields_at(fields[str(loc[0])].annotation, loc[1:]) if loc[0] in fields else set()
    arguments = get_args(annotation)
    return _fields_at(arguments[-1], loc[1:]) if loc and arguments else set()
