"""Compiling the kernels for one path, and keeping what was compiled."""

import ctypes
import hashlib
from collections.abc import Callable
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.store import CodeStore

__all__ = ["Compiled", "assemble", "compile_module"]

TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}


class Compiled:
    """Machine code in memory."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine  # the code lives as long as this does

    def function(self, name: str, arguments: int) -> Callable[..., None]:
        """A function of the code; it takes addresses and counts.

        Python's lock is not held while it runs. The function may be called as long as this object
        lives.
        """
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)
        return kind(self._engine.get_function_address(name))


def compile_module(module: Any, path: Path, store: CodeStore) -> Compiled:
    """Machine code of a module.

    Parameters
    ----------
    module : ir.Module
        What was written.
    path : Path
        What it is for.
    store : CodeStore
        Where code is kept.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = _machine(path)
    text = str(module)
    key = "\n".join([llvmlite.__version__, str(llvm.llvm_version_info), *path.features, text])
    name = f"{path.name}-{hashlib.sha256(key.encode()).hexdigest()}"
    code = store.code(name, lambda: bytes(machine.emit_object(_optimised(text, path, machine))))
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Compiled(engine)


def assemble(module: Any, path: Path) -> str:
    """Assembly of a module, for any path whose processor LLVM knows."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = _machine(path)
    return machine.emit_assembly(_optimised(str(module), path, machine))


def _machine(path: Path) -> Any:
    """A target of exactly the path's features, whatever else the processor has."""
    triple = TRIPLES[path.architecture]
    features = ",".join(f"+{name}" for name in path.features)
    cpu = "x86-64" if path.architecture == "x86_64" else "generic"
    if path.bits == 512:
        features += ",-prefer-256-bit"
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="default", codemodel="jitdefault"
    )


def _optimised(text: str, path: Path, machine: Any) -> Any:
    module = llvm.parse_assembly(text)
    module.triple = TRIPLES[path.architecture]
    module.data_layout = str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = False
    options.loop_vectorization = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module
