"""Symbolic dimensions: integer expressions over named, bounded symbols.

A `Dim` is an `int` or an `Expr`. An `Expr` is kept in normal form, a sum of products of atoms, so that two
equal polynomials are equal objects: `(a + b) * 2 == 2 * b + 2 * a`. What is not a polynomial (`floordiv`,
`mod`, `min`, `max`) is an opaque atom over normal forms, simplified where the result is certain for every
value of the symbols. A symbol is an integer >= 0 with an upper bound that the graph declares.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from plumbline.errors import ValidationError

__all__ = [
    "Dim",
    "Expr",
    "Symbol",
    "SymbolicValueError",
    "add",
    "bounds",
    "ceildiv",
    "evaluate",
    "floordiv",
    "format_dim",
    "free_symbols",
    "is_static",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "parse_dim",
    "product",
    "sub",
    "substitute",
    "symbol",
    "upper_bound",
]


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """A named non-negative integer that is fixed when a run starts."""

    name: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A non-polynomial function of dimensions: `floordiv`, `mod`, `min` or `max`."""

    function: str
    arguments: tuple[Dim, ...]


Atom = Symbol | Opaque
Monomial = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Expr:
    """A sum of `coefficient * product(atoms)`; at least one monomial is not constant."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        return add(self, other)

    __radd__ = __add__

    def __mul__(self, other: Dim) -> Dim:
        return mul(self, other)

    __rmul__ = __mul__

    def __sub__(self, other: Dim) -> Dim:
        return sub(self, other)

    def __rsub__(self, other: Dim) -> Dim:
        return sub(other, self)

    def __neg__(self) -> Dim:
        return mul(self, -1)

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __str__(self) -> str:
        return format_dim(self)

    def __repr__(self) -> str:
        return f"Expr({format_dim(self)})"


Dim = int | Expr


@dataclass(eq=False, kw_only=True)
class SymbolicValueError(ValidationError):
    """A dimension expression cannot be read or has no value."""

    code = "validation.dimension"
    owner = "contracts"
    template = "dimension {expression!r}: {reason}"

    expression: str
    reason: str


def symbol(name: str) -> Expr:
    """The dimension that is one symbol."""
    return Expr((((Symbol(name),), 1),))


def is_static(dim: Dim) -> bool:
    """Whether the dimension is a plain integer."""
    return isinstance(dim, int)


def add(left: Dim, right: Dim) -> Dim:
    """Sum of two dimensions."""
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    terms = dict(_terms(left))
    for monomial, coefficient in _terms(right):
        terms[monomial] = terms.get(monomial, 0) + coefficient
    return _normal(terms)


def sub(left: Dim, right: Dim) -> Dim:
    """Difference of two dimensions."""
    return add(left, mul(right, -1))


def mul(left: Dim, right: Dim) -> Dim:
    """Product of two dimensions."""
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    terms: dict[Monomial, int] = {}
    for a, ca in _terms(left):
        for b, cb in _terms(right):
            monomial = tuple(sorted(a + b, key=_atom_key))
            terms[monomial] = terms.get(monomial, 0) + ca * cb
    return _normal(terms)


def product(dims: Iterable[Dim]) -> Dim:
    """Product of dimensions; 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = mul(total, dim)
    return total


def floordiv(left: Dim, right: Dim) -> Dim:
    """Floor division. Exact when every term of `left` is divisible by an integer `right`."""
    if isinstance(right, int):
        if right == 0:
            raise SymbolicValueError(expression=f"{format_dim(left)} // 0", reason="division by zero")
        if isinstance(left, int):
            return left // right
        if right == 1:
            return left
        if right > 0:
            exact = {m: c for m, c in _terms(left) if c % right == 0}
            rest = {m: c for m, c in _terms(left) if c % right != 0}
            if not rest:
                return _normal({m: c // right for m, c in exact.items()})
            remainder = _normal(rest)
            whole = _normal({m: c // right for m, c in exact.items()})
            if isinstance(remainder, int):
                return add(whole, remainder // right)
            return add(whole, _opaque("floordiv", remainder, right))
    if left == right:
        return 1
    quotient = _exact_quotient(left, right)
    return quotient if quotient is not None else _opaque("floordiv", left, right)


def _exact_quotient(left: Dim, right: Dim) -> Dim | None:
    """`left / right` when `right` is one monomial that divides every term of `left`."""
    divisor = list(_terms(right))
    if len(divisor) != 1:
        return None
    atoms, coefficient = divisor[0]
    result: dict[Monomial, int] = {}
    for monomial, c in _terms(left):
        remaining = list(monomial)
        for atom in atoms:
            if atom not in remaining:
                return None
            remaining.remove(atom)
        if coefficient == 0 or c % coefficient:
            return None
        result[tuple(remaining)] = c // coefficient
    return _normal(result)


def ceildiv(left: Dim, right: int) -> Dim:
    """Division rounded up, for a positive divisor."""
    return floordiv(add(left, right - 1), right)


def mod(left: Dim, right: Dim) -> Dim:
    """Remainder with the sign of the divisor, as in Python."""
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    if isinstance(right, int) and all(c % right == 0 for _, c in _terms(left)):
        return 0
    return _opaque("mod", left, right)


def minimum(left: Dim, right: Dim) -> Dim:
    """The smaller of two dimensions."""
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    difference = sub(left, right)
    if isinstance(difference, int):
        return left if difference <= 0 else right
    return _opaque("min", *sorted((left, right), key=format_dim))


def maximum(left: Dim, right: Dim) -> Dim:
    """The larger of two dimensions."""
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right)
    difference = sub(left, right)
    if isinstance(difference, int):
        return left if difference >= 0 else right
    return _opaque("max", *sorted((left, right), key=format_dim))


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The integer that `dim` stands for.

    Raises:
        SymbolicValueError: a symbol has no value.
    """
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        factor = coefficient
        for atom in monomial:
            factor *= _evaluate_atom(atom, values)
        total += factor
    return total


def _evaluate_atom(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        if atom.name not in values:
            raise SymbolicValueError(expression=atom.name, reason="the symbol has no value")
        return values[atom.name]
    arguments = [evaluate(a, values) for a in atom.arguments]
    match atom.function:
        case "floordiv" | "mod" if arguments[1] == 0:
            raise SymbolicValueError(expression=_format_atom(atom), reason="division by zero")
        case "floordiv":
            return arguments[0] // arguments[1]
        case "mod":
            return arguments[0] % arguments[1]
        case "min":
            return min(arguments)
        case _:
            return max(arguments)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """Replace symbols by dimensions and normalise."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        total = add(total, mul(coefficient, product(_substitute_atom(a, values) for a in monomial)))
    return total


def _substitute_atom(atom: Atom, values: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Symbol):
        return values.get(atom.name, symbol(atom.name))
    arguments = [substitute(a, values) for a in atom.arguments]
    functions = {"floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum}
    return functions[atom.function](*arguments)


def free_symbols(dim: Dim) -> frozenset[str]:
    """Names of the symbols in `dim`."""
    if isinstance(dim, int):
        return frozenset()
    names: set[str] = set()
    for monomial, _ in dim.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                names.add(atom.name)
            else:
                names.update(*(free_symbols(a) for a in atom.arguments))
    return frozenset(names)


def bounds(dim: Dim, limits: Mapping[str, int]) -> tuple[int, int]:
    """An interval `(low, high)` that contains `dim` when each symbol lies in `[0, limits[name]]`.

    Raises:
        SymbolicValueError: a symbol has no limit.
    """
    if isinstance(dim, int):
        return dim, dim
    low = high = 0
    for monomial, coefficient in dim.terms:
        interval = (coefficient, coefficient)
        for atom in monomial:
            interval = _interval_mul(interval, _atom_bounds(atom, limits))
        low, high = low + interval[0], high + interval[1]
    return low, high


def upper_bound(dim: Dim, limits: Mapping[str, int]) -> int:
    """The largest value of `dim`: exact for products and sums of non-negative terms."""
    return bounds(dim, limits)[1]


def _atom_bounds(atom: Atom, limits: Mapping[str, int]) -> tuple[int, int]:
    if isinstance(atom, Symbol):
        if atom.name not in limits:
            raise SymbolicValueError(expression=atom.name, reason="the symbol has no bound")
        return 0, limits[atom.name]
    intervals = [bounds(a, limits) for a in atom.arguments]
    (a_low, a_high), (b_low, b_high) = intervals[0], intervals[1]
    match atom.function:
        case "min":
            return min(a_low, b_low), min(a_high, b_high)
        case "max":
            return max(a_low, b_low), max(a_high, b_high)
        case "mod":
            return (0, max(b_high - 1, 0)) if b_low >= 0 else (min(b_low + 1, 0), max(b_high - 1, 0))
        case _:
            divisors = [d for d in (b_low, b_high, -1, 1) if d != 0 and b_low <= d <= b_high]
            quotients = [n // d for n in (a_low, a_high) for d in divisors]
            return min(quotients, default=0), max(quotients, default=0)


def _interval_mul(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    products = [x * y for x in a for y in b]
    return min(products), max(products)


def format_dim(dim: Dim) -> str:
    """Text that `parse_dim` reads back."""
    if isinstance(dim, int):
        return str(dim)
    parts: list[str] = []
    for monomial, coefficient in dim.terms:
        factors = [_format_atom(a) for a in monomial]
        if coefficient != 1 or not factors:
            factors.insert(0, str(coefficient))
        parts.append("*".join(factors))
    return " + ".join(parts)


def _format_atom(atom: Atom) -> str:
    if isinstance(atom, Symbol):
        return atom.name
    return f"{atom.function}({', '.join(format_dim(a) for a in atom.arguments)})"


_MAX_TEXT = 4096


def parse_dim(text: str) -> Dim:
    """Read a dimension: integers, names, `+ - * //` and the functions of this module.

    Raises:
        SymbolicValueError: the text is not such an expression.
    """
    if len(text) > _MAX_TEXT:
        raise SymbolicValueError(expression=text[:40], reason=f"longer than {_MAX_TEXT} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _parse_node(tree.body, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SymbolicValueError(expression=text, reason="not a dimension expression") from error


def _parse_node(node: ast.expr, text: str) -> Dim:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return mul(_parse_node(operand, text), -1)
        case ast.BinOp(left=left, op=op, right=right):
            operators = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.FloorDiv: floordiv, ast.Mod: mod}
            function = operators.get(type(op))
            if function is not None:
                return function(_parse_node(left, text), _parse_node(right, text))
        case ast.Call(func=ast.Name(id=name), args=[a, b], keywords=[]):
            functions = {"floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum}
            if name in functions:
                return functions[name](_parse_node(a, text), _parse_node(b, text))
    raise SymbolicValueError(expression=text, reason="not a dimension expression")


def _terms(dim: Dim) -> Sequence[tuple[Monomial, int]]:
    if isinstance(dim, int):
        return (((), dim),)
    return dim.terms


def _normal(terms: Mapping[Monomial, int]) -> Dim:
    kept = sorted(((m, c) for m, c in terms.items() if c != 0), key=lambda item: _monomial_key(item[0]))
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return Expr(tuple(kept))


def _opaque(function: str, left: Dim, right: Dim) -> Expr:
    return Expr((((Opaque(function, (left, right)),), 1),))


def _atom_key(atom: Atom) -> str:
    return _format_atom(atom)


def _monomial_key(monomial: Monomial) -> tuple[int, tuple[str, ...]]:
    return (-len(monomial), tuple(_format_atom(a) for a in monomial))
