"""Small arithmetic over named inputs (`"l1 + l2 + l3"`, `"max(import - export, 0)"`), safe to read from a file.

Text is parsed once, into Python's syntax tree, and only numbers, names, + - * /, parentheses, min, max and abs are let
through. It must never run code, look up an attribute, or grow: length is bounded, nothing can be raised to a power.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Expression"]

_LENGTH_LIMIT = 300
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "abs": abs}
_ALLOWED = "an expression holds numbers, names of inputs, + - * / ( ), min, max and abs"


class Expression:
    """One expression, checked when it is made; raises ValueError that says which part is not understood."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        if not 0 < len(self.text) <= _LENGTH_LIMIT:
            raise ValueError(f"{_ALLOWED}, in at most {_LENGTH_LIMIT} characters")
        try:
            self._tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f'"{self.text}" cannot be read; {_ALLOWED}') from error
        found: set[str] = set()
        self._check(self._tree, found)
        self.names = frozenset(found)
        """The inputs that it reads."""

    def _check(self, node: ast.AST, names: set[str]) -> None:
        match node:
            case ast.Constant(value=int() | float() as value) if (
                value is not True and value is not False and value < 1e15
            ):
                pass
            case ast.Name(id=name):
                names.add(name)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._check(left, names)
                self._check(right, names)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                self._check(operand, names)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                if len(args) != 1 if name == "abs" else len(args) < 2:
                    raise ValueError(f'"{name}" in "{self.text}" has {len(args)} arguments')
                for argument in args:
                    self._check(argument, names)
            case _:
                part = ast.get_source_segment(self.text, node) or self.text
                raise ValueError(f'"{part}" in "{self.text}" is not understood; {_ALLOWED}')

    def evaluate(self, inputs: Mapping[str, float]) -> float:
        """The result over `inputs`, which hold all of `names`; raises ArithmeticError, also if it is not finite."""
        result = float(self._value(self._tree, inputs))
        if not math.isfinite(result):
            raise OverflowError("the result is not finite")
        return result

    def _value(self, node: Any, inputs: Mapping[str, float]) -> float:
        match node:
            case ast.Constant(value=int() | float() as value):
                return float(value)
            case ast.Name(id=name):
                return float(inputs[name])
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._value(left, inputs), self._value(right, inputs))
            case ast.UnaryOp(op=op, operand=operand):
                return _UNARY[type(op)](self._value(operand, inputs))
            case _:
                return _FUNCTIONS[node.func.id](*(self._value(argument, inputs) for argument in node.args))
