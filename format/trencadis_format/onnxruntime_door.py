"""The only door to onnxruntime: it reports nothing, and computes exactly where it can.

onnxruntime's wheels report events to their maker unless `ORT_DISABLE_TELEMETRY` is set before they
are imported. It is set here; what a user has set stays. This is the one place below the command
lines that looks at the environment.

Which mode computes quantised operators exactly was tried on processors with and without VNNI:

- QuantizeLinear/DequantizeLinear and float models: without graph optimisations. With them,
  8-bit products are summed in pairs of 16 bits, which saturates without VNNI;
- QOperator files (QLinearConv, MatMulInteger, ...) and dynamic quantisation: with graph
  optimisations, and with `session.x64quantprecision` where the processor lacks VNNI. What such a
  file has of QuantizeLinear and DequantizeLinear is left as it is: merged into operators on
  integers, a bias whose scale is not the product of the others' would be another one.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from trencadis_format.errors import InputError, UserError

__all__ = [
    "LOOPS",
    "MissingOnnxruntimeError",
    "Mode",
    "exact_mode",
    "explained",
    "has_vnni",
    "is_unsized",
    "load_onnxruntime",
    "load_quantiser",
    "new_run",
    "open_session",
]

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"

CPU_FLAGS = Path("/proc/cpuinfo")

INTEGER_OPERATORS = (
    "ConvInteger",
    "DynamicQuantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
    "QEmbedLayerNormalization",
    "QGemm",
    "QLinear",
)
"""Operators whose files need optimisations; the last is the beginning of a family's names."""

LOOPS = frozenset(("Loop", "Scan"))
"""Operators that may never end."""

UNSIZED = frozenset(
    (
        *LOOPS,
        "CenterCropPad",
        "Col2Im",
        "ConstantOfShape",
        "Expand",
        "MaxUnpool",
        "OneHot",
        "Pad",
        "RandomNormal",
        "RandomUniform",
        "Range",
        "Resize",
        "Tile",
        "Upsample",
    )
)
"""Operators whose results may be of any size, by the values of their inputs."""

MAX_REASON = 160
"""Characters of what onnxruntime says."""

EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"

MAX_SESSION_BYTES = 8 << 30
"""Size of all tensors of a session whose operators may make tensors of any size."""

VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})


class MissingOnnxruntimeError(UserError):
    """onnxruntime is not installed."""


class Mode(Enum):
    """Options of a session."""

    PLAIN = "without graph optimisations"
    INTEGER = "with graph optimisations of floats, and exact 8-bit products"
    FAST = "with all graph optimisations"
    BASELINE = "with all graph optimisations, and exact 8-bit products"


def exact_mode(operators: Iterable[str]) -> Mode:
    """The mode in which a model is computed exactly.

    Parameters
    ----------
    operators : iterable of str
        Kinds of the model's operators, with or without their domain before a dot.
    """
    names = {name.rsplit(".", 1)[-1] for name in operators}
    integer = any(name.startswith(INTEGER_OPERATORS) for name in names)
    return Mode.INTEGER if integer else Mode.PLAIN


def is_unsized(operators: Iterable[str]) -> bool:
    """Return whether a model's tensors may be of any size, by the values of its inputs.

    Parameters
    ----------
    operators : iterable of str
        As of `exact_mode`.
    """
    return not UNSIZED.isdisjoint(name.rsplit(".", 1)[-1] for name in operators)


def has_vnni(flags: Path = CPU_FLAGS) -> bool:
    """Return whether the processor sums 8-bit products in 32 bits; False where that is unknown."""
    try:
        text = flags.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    lines = [line for line in text.splitlines() if line.startswith("flags")]
    return bool(lines) and all(VNNI_FLAGS & set(line.split()) for line in lines)


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime with its reports switched off.

    Raises
    ------
    MissingOnnxruntimeError
        If it is not installed.
    """
    loaded = "onnxruntime" in sys.modules
    chosen = TELEMETRY_OFF in os.environ
    if not chosen and not loaded:
        os.environ[TELEMETRY_OFF] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingOnnxruntimeError(
            f"running ONNX needs the package {error.name!r}; install it with: "
            "pip install 'trencadis[compiler]'"
        ) from error
    if loaded and not chosen and hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def load_quantiser() -> ModuleType:
    """Import `onnxruntime.quantization`; see `load_onnxruntime`.

    Raises
    ------
    MissingOnnxruntimeError
        If onnxruntime, or onnx beside it, is not installed.
    """
    load_onnxruntime()
    try:
        import onnxruntime.quantization
    except ImportError as error:
        raise MissingOnnxruntimeError(
            f"quantising a float model needs the package {error.name!r}; install it with: "
            "pip install 'trencadis[compiler]'"
        ) from error
    return onnxruntime.quantization


@contextmanager
def explained(subject: str) -> Iterator[None]:
    """Turn what onnxruntime raises, which has kinds of its own, into one line.

    Parameters
    ----------
    subject : str
        What the line begins with: file, and what failed.

    Raises
    ------
    InputError
        If onnxruntime raises anything.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        raise InputError(f"{subject}: {reason}") from error


def open_session(
    model: Path | str | bytes,
    mode: Mode,
    *,
    threads: int | None = None,
    spin: bool = False,
    folder: Path | None = None,
    bounded: bool = False,
) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Parameters
    ----------
    model : path or bytes
        The ONNX file.
    mode : Mode
        How to compute; see `exact_mode`.
    threads : int, optional
        Threads within an operator; onnxruntime's own choice if it is left out.
    spin : bool
        Whether threads that wait keep the processor busy.
    folder : Path, optional
        Where the external data of a model lie that is given as bytes.
    bounded : bool
        Whether what it allocates, together with all other such sessions of the process, may be
        `MAX_SESSION_BYTES` at most: beyond that a run fails, instead of taking all memory.

    Raises
    ------
    MissingOnnxruntimeError
        If onnxruntime is not installed.
    """
    onnxruntime = load_onnxruntime()

    def made(*, exact_products: bool) -> Any:
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_DISABLE_ALL if mode is Mode.PLAIN else levels.ORT_ENABLE_ALL
        )
        if mode is Mode.INTEGER:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if exact_products:
            options.add_session_config_entry("session.x64quantprecision", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        if not spin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if folder is not None:
            options.add_session_config_entry(EXTERNAL_FOLDER, str(folder.absolute()))
        if bounded:
            _bound_memory(onnxruntime)
            options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 4
        source = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    if mode not in (Mode.INTEGER, Mode.BASELINE) or has_vnni():
        return made(exact_products=False)
    try:
        return made(exact_products=True)
    except Exception as error:
        if type(error).__name__ != "NotImplemented":
            raise
        # It makes weights unsigned where there is no kernel for them, as beside signed activations;
        # products of two signed bytes are exact without it. In a file that has unsigned
        # activations as well, theirs may saturate: no mode is exact there, and the judge says so.
        return made(exact_products=False)


def new_run() -> Any:
    """Make options of one run; setting `terminate` ends it, from any thread."""
    return load_onnxruntime().RunOptions()


def _bound_memory(onnxruntime: ModuleType) -> None:
    """Give the process's own allocator a bound; sessions that ask for it share it."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    bound = onnxruntime.OrtArenaCfg({"max_mem": MAX_SESSION_BYTES, "arena_extend_strategy": 1})
    # Registered once in a process: a second time says that it is there, and changes nothing.
    with suppress(Exception):
        onnxruntime.create_and_register_allocator(memory, bound)
