"""Typed tree to intermediate representation."""

from __future__ import annotations

from invivo.ir.layout import UNWIND_MAP, Action, Layout, Settings
from invivo.ir.ops import Operand
from invivo.ir.program import Entry, Program
from invivo.ir.types import Type
from invivo.lang import ast
from invivo.lang.check.model import Checked, Instance
from invivo.lang.lower import expressions, records, scope, statements
from invivo.lang.lower.body import Body, CallEmit, Fields
from invivo.lang.lower.calls import CallLowering, lower_builtin
from invivo.lang.lower.entry import pass_gate, pass_object, pass_scope
from invivo.lang.lower.state import ProgramState
from invivo.library.record import Place
from invivo.target import Scope


class _Forms:
    """Ties the topics together: each calls the others through `Body`."""

    def word(self, body: Body, node: ast.Expr) -> Operand:
        return expressions.word(body, node)

    def into(self, body: Body, node: ast.Expr, type_: Type, place: Place) -> None:
        expressions.into(body, node, type_, place)

    def address(self, body: Body, node: ast.Expr) -> Place:
        return expressions.address(body, node)

    def condition(self, body: Body, node: ast.Expr, then: str, otherwise: str) -> None:
        expressions.condition(body, node, then, otherwise)

    def compare_text(self, body: Body, left: ast.Expr, right: ast.Expr, length: int | None) -> Operand:
        return expressions.compare_text(body, left, right, length)

    def block(self, body: Body, block: ast.Block) -> None:
        statements.lower_block(body, block)

    def call(self, body: Body, node: ast.Call, place: Place | None, discarded: bool) -> None:
        lower_builtin(body, node, place, discarded=discarded)

    def emit(self, body: Body, node: ast.Expr, result: Type | None, subject: str) -> CallEmit:
        return CallLowering(body, node, result, subject, False)

    def send(self, body: Body, action: Action, fields: Fields) -> None:
        records.send(body, action, fields)


_FORMS = _Forms()


def lower(checked: Checked, settings: Settings) -> Program:
    """Lower every instance of every probe, and the programs that keep the scope."""
    target = checked.target
    state = ProgramState(checked, target, demangles=settings.cpp_demangle)
    entries = [_lower_instance(state, instance, f"probe{index}") for index, instance in enumerate(checked.instances)]
    if target.scope is Scope.TREE:
        entries += _scope_entries(state)
    if state.has_map(UNWIND_MAP):
        entries += _unwind_entries(state)
    specs = state.map_specs()
    layout = Layout(
        tuple(state.decodable_map(stored) for stored in state.maps.values()),
        tuple(state.records),
        state.stride,
        tuple(state.probes),
        tuple(state.sites),
        tuple(state.losses.values()),
        settings,
    )
    functions = tuple(records.set_stride(function, state.stride) for function in state.functions)
    return Program(functions, tuple(entries), specs, layout, checked.config.license)


def _lower_instance(state: ProgramState, instance: Instance, name: str) -> Entry:
    body = Body(state, instance, name, _FORMS)
    b = body.b
    b.span = instance.probe.span
    if instance.plan.context.gate is not None:
        pass_gate(body, instance.plan.context.gate)
    if instance.plan.context.object is not None:
        pass_object(body, instance.plan.context.object)
    if not any(builtin.lifts_scope for builtin in instance.builtins.values()):
        pass_scope(body)
    acquire, start = b.label("acquire"), b.label("body")
    b.jump(acquire)
    b.start(start)
    probe = instance.probe
    if probe.predicate is not None:
        run = b.label("run")
        with body.statement(probe.predicate.span):
            body.condition(probe.predicate, run, body.exit_label)
        b.start(run)
    body.block(probe.body)
    body.finish(acquire, start)
    order = state.checked.script.probes.index(probe)
    return Entry(name, instance.plan, order)


def _unwind_entries(state: ProgramState) -> list[Entry]:
    from invivo.lang.lower import unwind

    entries: list[Entry] = []
    for order, (name, plan, build) in enumerate(
        (
            ("unwind_fork", "scope-fork", unwind.inherit_mappings),
            ("unwind_exec", "scope-exec", unwind.renew_mappings),
            ("unwind_free", "scope-free", unwind.forget_mappings),
        )
    ):
        state.functions.append(build(state, name))
        entries.append(Entry(name, state.target.helper_plan(plan), order - 5))
    return entries


def _scope_entries(state: ProgramState) -> list[Entry]:
    entries: list[Entry] = []
    for order, (name, plan, build) in enumerate(
        (
            ("scope_fork", "scope-fork", scope.follow_fork),
            ("scope_free", "scope-free", scope.forget_group),
        )
    ):
        state.functions.append(build(state, name))
        entries.append(Entry(name, state.target.helper_plan(plan), order - 2))
    return entries
