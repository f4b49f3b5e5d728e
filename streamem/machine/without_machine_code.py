"""What only compiled code calls ends as LLVM's optimized form: no machine code is written that nobody would run.

A caller takes the optimized form into its own library, inlines what it can and writes the machine code of the rest
itself. Built on classes of Numba that are half public: where one of the names used here is missing, machine code is
written as usual.
"""

from __future__ import annotations

import copy
from typing import Any

from streamem.machine.whole_numba import codegen, compiler

Library: Any = getattr(codegen, "JITCodeLibrary", object)
Generator: Any = getattr(codegen, "JITCPUCodegen", object)
Compiler: Any = getattr(compiler, "Compiler", object)

IS_POSSIBLE = all(
    hasattr(part, name)
    for part, names in {
        Library: ("_finalize_specific", "_get_module_for_linking", "get_pointer_to_function"),
        Generator: ("_library_class", "_add_module", "set_env"),
        Compiler: ("define_pipelines",),
    }.items()
    for name in names
)
"""Does this Numba have all that is overridden here?"""


class UnwrittenLibrary(Library):
    """Functions in LLVM's optimized form, to be linked into the libraries of callers."""

    def _finalize_specific(self) -> None:
        """Leave out the engine, which would write machine code."""

    def get_pointer_to_function(self, name: str) -> int:
        """Null: nothing can be called here."""
        return 0

    def serialize_using_object_code(self) -> tuple[str, str, bytes]:
        """What lies in the cache: no object."""
        return self.name, "bitcode", self._get_module_for_linking().as_bitcode()


class UnwrittenGenerator(Generator):
    """Makes such libraries; LLVM's engine, which writes machine code, never hears of them."""

    _library_class = UnwrittenLibrary

    def _add_module(self, module: Any) -> None:
        """Keep it from the engine."""

    def set_env(self, env_name: str, env: Any) -> None:
        """Leave the variable alone, which lies in the machine code of callers."""


def unwritten(generator: Any) -> Any:
    """A generator with the settings of another one."""
    made = copy.copy(generator)
    made.__class__ = UnwrittenGenerator
    return made


class UnwrittenCompiler(Compiler):
    """Numba's compiler, for functions that get no machine code."""

    def define_pipelines(self) -> Any:
        """Numba's own, which put the function into the library that is there."""
        if self.state.library is None:
            generator = unwritten(self.state.targetctx.codegen())
            self.state.library = generator.create_library(self.state.func_id.func_qualname)
        return super().define_pipelines()


def rebuilt(target: Any, payload: tuple[Any, ...]) -> Any:
    """The compiled function that a cache holds as `UnwrittenLibrary` serialized it."""
    without = target.subtarget(_internal_codegen=unwritten(target.codegen()))
    return compiler.CompileResult._rebuild(without, *payload)._replace(target_context=target)
