"""How a value is written in the configuration, the same for every kind of source.

A value has one origin - the kind's own (`path`, `register`, `topic`), an `expr` over named `inputs`, or a `constant` -
and is then scaled and shifted. A kind adds its origin to `Value` and takes `ValueOptions` as the base of its options.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, Field, model_validator

from pusher.sources import SourceError
from pusher.sources.conversion import KEYS, POWER_KEY, checked, converted, number
from pusher.sources.expressions import Expression
from schemas.document import Part

__all__ = ["JsonPath", "JsonValue", "Key", "Value", "ValueOptions", "check_keys"]

_ALL_KEYS = sorted({key for keys in KEYS.values() for key in keys})


def _readable_expression(text: str) -> str:
    Expression(text)
    return text


def _compiled_path(text: str) -> str:
    try:
        jmespath.compile(text)
    except (JMESPathError, RecursionError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f'"{text}" is not a JMESPath: {reason}') from error
    return text


def _known_key(key: str) -> str:
    if key in _ALL_KEYS:
        return key
    near = get_close_matches(key, _ALL_KEYS, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(_ALL_KEYS)}"
    raise ValueError(f'unknown value "{key}"; {hint}')


Key = Annotated[str, AfterValidator(_known_key)]
"""A key of the document, of any category."""
InputName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
JsonPath = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_compiled_path)]
"""A JMESPath, compiled when the configuration is read, so that a mistake in it is one of the configuration."""


class Value(Part):
    """One value or input; a kind's own subclass adds where it is read and names that field in `origin`."""

    origin: ClassVar[str]
    origin_is_optional: ClassVar[bool] = False

    expr: Annotated[str, AfterValidator(_readable_expression)] | None = Field(
        None, description="arithmetic over the names under inputs"
    )
    constant: bool | int | float | None = Field(None, description="a fixed value, for what the device does not say")
    scale: float = Field(1, description="factor, applied first")
    offset: float = Field(0, description="added after scale")
    optional: bool = Field(default=False, description="leave the value out where the device does not give it")
    when_absent: float | None = Field(
        None, description="taken where the device has no value; only where its maker says that this is meant"
    )

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, given: Any) -> Any:
        """Let a text stand for `{path: text}` (or topic) and a truth for `{constant: truth}`."""
        if isinstance(given, str):
            return {cls.origin: given}
        return {"constant": given} if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = {self.origin: self.place, "expr": self.expr, "constant": self.constant}
        given = [name for name, origin in origins.items() if origin is not None]
        if len(given) != 1 and not (self.origin_is_optional and not given):
            found = " and ".join(f'"{name}"' for name in given) or "none"
            raise ValueError(f'a value has one origin: "{self.origin}", "expr" or "constant"; here: {found}')
        return self

    @property
    def place(self) -> Any:
        """What the configuration says under `origin`."""
        return getattr(self, self.origin)

    @property
    def is_read(self) -> bool:
        """Whether the device is asked for it."""
        return self.expr is None and self.constant is None


class JsonValue(Value):
    """A value found in a JSON document."""

    origin = "path"
    path: JsonPath | None = Field(None, description="JMESPath of the value")


V = TypeVar("V", bound=Value)


def check_keys(keys: Any, category: str) -> None:
    """Raise ValueError for a key that a device of `category` does not have."""
    for key in keys:
        if key not in KEYS[category]:
            raise ValueError(f'"{key}" is not a value of {category}; it has: {", ".join(KEYS[category])}')


class ValueOptions(Part, Generic[V]):
    """Base of the options of a kind whose user says where each value lies; `V` is the kind's form of a value."""

    values: dict[Key, V] = Field(description="the document's keys for this device, each with where it is read")
    inputs: dict[InputName, V] = Field({}, description="further readings, for expressions only")

    @model_validator(mode="after")
    def _expressions_know_their_inputs(self) -> Self:
        if self.nothing_is_read():
            raise ValueError("nothing is read from the device: every value is a constant")
        for name, value in self.inputs.items():
            if value.expr is not None:
                raise ValueError(f'input "{name}" is itself an expression; expressions belong under values')
        for key, value in self.values.items():
            for name in sorted(Expression(value.expr).names - self.inputs.keys()) if value.expr else ():
                near = get_close_matches(name, self.inputs, n=1, cutoff=0.5)
                hint = f'did you mean "{near[0]}"?' if near else 'add it under "inputs"'
                raise ValueError(f'"{key}" reads "{name}", which is not an input; {hint}')
        return self

    def nothing_is_read(self) -> bool:
        """Whether there is nothing to ask the device for."""
        return not self.readings()

    def fit(self, category: str) -> None:
        """Raise ValueError unless these are values that a device of `category` has, with its power among them."""
        check_keys(self.values, category)
        if POWER_KEY[category] not in self.values:
            raise ValueError(f'values of {category} need "{POWER_KEY[category]}"')

    def readings(self) -> list[tuple[str, V]]:
        """What the device is asked for, each with its name: what is neither computed nor constant."""
        named = [*self.inputs.items(), *self.values.items()]
        return [(name, value) for name, value in named if value.is_read]

    def assemble(self, category: str, raw_of: Callable[[str, V], Any]) -> dict[str, Any]:
        """Make the device's values from what it answered.

        `raw_of` gives what the device has for a value: a number, text, a truth, or None where it has nothing. Raises
        SourceError for what is no value, for a missing one that is not optional, and for one out of bounds.
        """

        def raw(name: str, value: V) -> Any:
            found = raw_of(name, value) if value.constant is None else value.constant
            found = value.when_absent if found is None else found
            if found is None and not value.optional:
                where = f'{value.origin} "{value.place}"'
                raise SourceError(f'{name}: nothing at {where}; correct it, or allow for it with "optional: true"')
            return found

        inputs: dict[str, float | None] = {}
        for name, value in self.inputs.items():
            found = raw(name, value)
            inputs[name] = None if found is None else number(name, found, scale=value.scale, offset=value.offset)
        values: dict[str, Any] = {}
        for key, value in self.values.items():
            found = raw(key, value) if value.expr is None else _computed(key, value.expr, inputs)
            if found is not None:
                values[key] = converted(key, found, scale=value.scale, offset=value.offset)
        return checked(category, values)


def _computed(key: str, expr: str, inputs: dict[str, float | None]) -> float | None:
    """The expression's result; None if an input that may be missing is."""
    expression = Expression(expr)
    known = {name: found for name in expression.names if (found := inputs[name]) is not None}
    if len(known) < len(expression.names):
        return None
    try:
        return expression.evaluate(known)
    except ArithmeticError as error:
        given = ", ".join(f"{name} = {known[name]:g}" for name in sorted(known))
        raise SourceError(f'{key}: "{expr}" has no result for {given}: {error}') from error
