"""A plugin of mypy: in the tests, a plain string will do for an id.

The package keeps its ids apart (videre/ids.py). Tests write them as they read: "room", "a", "1".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mypy.nodes import TypeInfo
from mypy.plugin import FunctionSigContext, MethodSigContext, Plugin
from mypy.type_visitor import TypeTranslator
from mypy.types import FunctionLike, Instance, Type, TypeAliasType, get_proper_type

TESTS = Path(__file__).resolve().parents[1]
Context = FunctionSigContext | MethodSigContext


class _AsStrings(TypeTranslator):
    """Replaces the type of each id by what it is made of, a string."""

    def visit_instance(self, found: Instance) -> Type:
        if found.type.module_name == "videre.ids":
            assert isinstance(found.type, TypeInfo) and found.type.bases
            return found.type.bases[0]
        return super().visit_instance(found)

    def visit_type_alias_type(self, found: TypeAliasType) -> Type:
        return get_proper_type(found).accept(self)


def _plain(context: Context) -> FunctionLike:
    signature = context.default_signature
    if not Path(context.api.path).resolve().is_relative_to(TESTS):
        return signature
    arguments = [each.accept(_AsStrings()) for each in signature.arg_types]
    return signature.copy_modified(arg_types=arguments)


class PlainIds(Plugin):
    """See the module."""

    def get_function_signature_hook(
        self, fullname: str
    ) -> Callable[[FunctionSigContext], FunctionLike] | None:
        """Let our functions and classes take plain strings for ids."""
        return _plain if fullname.startswith("videre.") else None

    def get_method_signature_hook(
        self, fullname: str
    ) -> Callable[[MethodSigContext], FunctionLike] | None:
        """Let our methods take plain strings for ids."""
        return _plain if fullname.startswith("videre.") else None


def plugin(_version: str) -> type[Plugin]:
    """Return the plugin's class; mypy asks for it."""
    return PlainIds
