"""The types of operators."""

from __future__ import annotations

from invivo.diagnostics import Code
from invivo.ir import types as t
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.lang.check.scope import Checker
from invivo.library.spelling import literal_type, promote, spell, whole

COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_NUMBERS = (t.Int, t.Bool, t.Enumeration)
_CONDITIONS = (*_NUMBERS, t.Pointer, t.KernelSymbol, t.Username, t.Timestamp, t.CgroupPath)
_ORDERED = (*_CONDITIONS, t.ProbeName)


def is_condition(type_: Type) -> bool:
    return isinstance(type_, _CONDITIONS)


def check_condition(c: Checker, node: ast.Expr) -> None:
    type_ = c.check(node)
    if type_ is not None and not is_condition(type_):
        kind = "string" if isinstance(type_, t.String) else spell(type_)
        c.error(Code.BAD_OPERAND, node, f"Invalid condition: {kind}", "compare it with something")


def check_unary(c: Checker, node: ast.Unary) -> Type | None:
    if node.op == "&":
        return _check_address(c, node)
    operand = c.check(node.operand)
    if operand is None:
        return None
    constant = c.folder(node)
    match node.op:
        case "!":
            if not is_condition(operand):
                break_ = f"The ! operator can not be used on expressions of type '{spell(operand)}'"
                c.error(Code.BAD_OPERAND, node, break_)
            return t.BOOL
        case "*":
            return _check_dereference(c, node, operand)
        case _:
            if not isinstance(operand, _NUMBERS):
                c.error(
                    Code.BAD_OPERAND,
                    node,
                    f"The {node.op} operator can not be used on expressions of type '{spell(operand)}'",
                )
                return None
            if node.op == "-":
                if constant is None and isinstance(value := c.folder(node.operand), int) and not c.bpftrace:
                    c.error(Code.LIMIT, node, f"-{value} does not fit in 64 bits")
                return literal_type(constant) if isinstance(constant, int) else t.INT64
            return whole(operand) if isinstance(operand, t.Int) else t.INT64


def _check_address(c: Checker, node: ast.Unary) -> Type | None:
    """A pointer to a variable's memory, or to the kernel's map."""
    match node.operand:
        case ast.ScratchVariable() as written:
            type_ = c.check(written)
            c.instance.variables[written].captured |= type_ is not None
            return None if type_ is None else t.Pointer(type_)
        case ast.MapAccess(_, name, ()):
            info = c.map(name)
            if info.value is None and c.final and name not in c.left_out:
                c.error(Code.UNKNOWN_VARIABLE, node.operand, f"Undefined map: {name}", "nothing assigns to it")
            return t.Pointer(c.target.struct("struct", "bpf_map") or t.VOID)
        case _:
            c.error(Code.BAD_OPERAND, node, "The & operator must be applied to a map or variable")
            return None


def _check_dereference(c: Checker, node: ast.Unary, operand: Type) -> Type | None:
    match operand:
        case t.Pointer(t.Void()):
            c.error(Code.BAD_OPERAND, node, "Can not dereference a void pointer", "cast it: *(uint64 *)p")
            return None
        case t.Pointer(pointee):
            return pointee
        case t.Int():
            return t.UINT64
        case _:
            what = f"The dereference operator can not be used on expressions of type '{spell(operand)}'"
            if isinstance(operand, t.Struct):
                what = f"Can not dereference struct/union of type '{spell(operand)}'. It is not a pointer."
            c.error(Code.BAD_OPERAND, node, what)
            return None


def check_increment(c: Checker, node: ast.Increment) -> Type | None:
    match node.operand:
        case ast.MapAccess() as target:
            info = c.map(target.name)
            if isinstance(info.value, t.Int | None):
                grown = t.INT64 if info.value is None else whole(info.value)
                c.grow_map(info, grown, target.span, literal=info.flexible and info.value is not None)
        case ast.ScratchVariable() as target:
            variable = c.use(target)
            if variable is not None:
                variable.assigned = True
            if variable is not None and isinstance(variable.type, t.Int):
                c.grow_variable(variable, whole(variable.type), target, literal=variable.flexible)
        case _:
            c.error(
                Code.BAD_ASSIGNMENT,
                node,
                f"The {'++' if node.delta > 0 else '--'} operator must be applied to a map or variable",
            )
            return None
    operand = c.check(node.operand)
    if operand is None:
        return None
    if not isinstance(operand, t.Int | t.Pointer):
        is_map = isinstance(node.operand, ast.MapAccess)
        c.error(
            Code.TYPE_MISMATCH,
            node,
            f"Type mismatch for {node.operand.name if is_map else f'${node.operand.name}'}: trying to assign value of "
            f"type '{'uint64' if node.delta > 0 else 'int64'}' when {'map' if is_map else 'variable'} already has "
            f"a type '{spell(operand)}'",
        )
        return None
    if isinstance(node.operand, ast.MapAccess) and t.is_aggregation(c.map(node.operand.name).value or t.VOID):
        c.error(Code.AGGREGATION, node, f"{node.operand.name} is an aggregation and can not be counted by hand")
    return operand


def check_binary(c: Checker, node: ast.Binary) -> Type | None:
    left, right = c.check(node.left), c.check(node.right)
    if left is None or right is None:
        return t.BOOL if node.op in COMPARISONS or node.op in ("&&", "||") else None
    constant = c.folder(node)
    if isinstance(constant, int) and node.op not in COMPARISONS and node.op not in ("&&", "||"):
        return literal_type(constant)
    if isinstance(constant, str):
        return t.String(len(constant) + 1)
    _check_literals(c, node)
    if node.op in ("&&", "||"):
        if not is_condition(left) or not is_condition(right):
            _refuse_operands(c, node, left, right)
        return t.BOOL
    if node.op in COMPARISONS:
        _check_comparison(c, node, left, right)
        return t.BOOL
    return _check_arithmetic(c, node, left, right)


def _check_literals(c: Checker, node: ast.Binary) -> None:
    """What literals alone show to be wrong, before it happens at run time. (The neighbour waits.)"""
    left, right = c.folder(node.left), c.folder(node.right)
    if not isinstance(right, int) or c.bpftrace:
        return
    if node.op in "/%" and right == 0:
        c.error(Code.BAD_OPERAND, node.right, "division by zero")
    elif node.op in ("<<", ">>") and not 0 <= right < 64:
        c.error(Code.BAD_OPERAND, node.right, f"a number has 64 bits and cannot be shifted by {right}")
    elif isinstance(left, int) and c.folder(node) is None:
        c.error(Code.LIMIT, node, f"{left} {node.op} {right} does not fit in 64 bits")


def _check_comparison(c: Checker, node: ast.Binary, left: Type, right: Type) -> None:
    text = (t.String, t.ProbeName)
    if isinstance(left, text) and isinstance(right, text):
        if node.op not in ("==", "!="):
            _refuse_operands(c, node, left, right)
        return
    if isinstance(left, _ORDERED) and isinstance(right, _ORDERED):
        _check_pointees(c, node, left, right)
        return
    if node.op in ("==", "!=") and comparable_memory(left, right):
        return
    _refuse_operands(c, node, left, right)


def _refuse_operands(c: Checker, node: ast.Binary, left: Type, right: Type) -> None:
    """Say what is wrong with two operands, in the neighbour's words."""
    hint = _operand_hint(node.op, left, right)
    if isinstance(left, t.Array) and isinstance(right, t.Array):
        what = f"The {node.op} operator cannot be used on arrays."
        if node.op in ("==", "!="):
            same = "size" if left.length != right.length else "sized integer"
            what = f"Only arrays of same {same} support comparison operators."
        c.error(Code.BAD_OPERAND, node, what)
    elif isinstance(left, t.Pointer) or isinstance(right, t.Pointer) or type(left) is type(right):
        what = f"The {node.op} operator can not be used on expressions of types {spell(left)}, {spell(right)}"
        c.error(Code.BAD_OPERAND, node, what, hint)
    else:
        what = f"Type mismatch for '{node.op}': comparing {spell(left)} with {spell(right)}"
        c.error(Code.TYPE_MISMATCH, node, what, hint)


def _check_pointees(c: Checker, node: ast.Binary, left: Type, right: Type) -> None:
    if not isinstance(left, t.Pointer) or not isinstance(right, t.Pointer) or left.pointee == right.pointee:
        return
    pointees = f"{spell(left.pointee)}, {spell(right.pointee)}"
    c.diagnostics.warning(Code.TYPE_MISMATCH, node.span, f"comparison of distinct pointer types: {pointees}")


def _operand_hint(op: str, left: Type, right: Type) -> str | None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, t.String | t.ProbeName) and isinstance(other, t.Pointer):
            return "str() makes a string of a char pointer"
        if isinstance(one, t.String) and other == t.INT8 and op in COMPARISONS:
            return "a character is a number: 'a' is 97"
    if op not in COMPARISONS and (isinstance(left, t.Pointer) or isinstance(right, t.Pointer)):
        return "(uint64)p is a pointer's address as a number"
    return None


def comparable_memory(left: Type, right: Type) -> bool:
    """Whether two values in memory can be compared byte by byte."""
    kinds = (t.Array, t.MacAddress, t.Inet, t.Stack, t.Buffer, t.UserSymbol)
    if isinstance(left, t.Tuple | t.NamedTuple):
        return promote(left, right) is not None
    return isinstance(left, kinds) and left == right


def _check_arithmetic(c: Checker, node: ast.Binary, left: Type, right: Type) -> Type | None:
    match left, right:
        case (t.Pointer(), t.Int() | t.Enumeration()) if node.op in "+-":
            return left
        case (t.Int() | t.Enumeration(), t.Pointer()) if node.op == "+":
            return right
        case _:
            pass
    if not isinstance(left, _NUMBERS) or not isinstance(right, _NUMBERS):
        _refuse_operands(c, node, left, right)
        return None
    signed = arithmetic_signed(c, node, left, right)
    if c.bpftrace and node.op in "/%" and signed and left != right:
        warn_signed_division(c, node, node.op)
    return t.Int(64, signed)


def warn_signed_division(c: Checker, node: ast.Node, op: str) -> None:
    c.diagnostics.warning(
        Code.BAD_OPERAND,
        node.span,
        f"signed operands for '{op}' can lead to undefined behavior (cast to unsigned to silence warning)",
    )


def arithmetic_signed(c: Checker, node: ast.Binary, left: Type, right: Type) -> bool:
    """Whether an operation works on signed numbers: a non-negative literal follows the other side."""
    if node.op == "-":
        return True
    if node.op in ("<<", ">>"):
        return is_signed(left) and not _is_natural(c, node.left)
    if _is_natural(c, node.left) and not is_signed(right):
        return False
    if _is_natural(c, node.right) and not is_signed(left):
        return False
    return is_signed(left) or is_signed(right)


def _is_natural(c: Checker, node: ast.Expr) -> bool:
    value = c.folder(node)
    return isinstance(value, int) and value >= 0


def is_signed(type_: Type) -> bool:
    return isinstance(type_, t.Int | t.Enumeration) and type_.signed


def check_ternary(c: Checker, node: ast.Ternary) -> Type | None:
    check_condition(c, node.condition)
    then = c.check(node.condition if node.then is None else node.then)
    otherwise = c.check(node.otherwise)
    if then is None or otherwise is None:
        return then or otherwise
    return join_branches(c, node, then, otherwise)


def join_branches(c: Checker, node: ast.Node, then: Type, otherwise: Type) -> Type | None:
    joined = promote(then, otherwise)
    if joined is None:
        c.error(
            Code.TYPE_MISMATCH,
            node,
            f"Branches must return the same type or compatible types: have '{spell(then)}' and '{spell(otherwise)}'",
        )
    return joined
