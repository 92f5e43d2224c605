"""ONNX files as they come, in the one form that the compiler reads.

The standard form is itself ONNX and computes the same: one graph without functions, nodes in order,
operators of `STANDARD_OPSET` or later in the domain "", every constant an initialiser that is no
input, constant subgraphs computed (but for what dequantises constants), and types and shapes of
tensors in `value_info` as far as they are known. Tensors keep the names that they have in the file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.reading.draft import Draft
from trencadis_compiler.importer.reading.read_model import read_model
from trencadis_compiler.importer.steps.biases import flatten_biases
from trencadis_compiler.importer.steps.check_memory import check_memory
from trencadis_compiler.importer.steps.check_operators import (
    check_numbers,
    check_quantisers,
    check_types,
    check_windows,
)
from trencadis_compiler.importer.steps.constants import constants_to_initialisers
from trencadis_compiler.importer.steps.ends import check_ends, make_outputs
from trencadis_compiler.importer.steps.fold_constants import fold_constants
from trencadis_compiler.importer.steps.functions import inline_functions
from trencadis_compiler.importer.steps.input_shapes import bind_input_shapes, check_sizes_known
from trencadis_compiler.importer.steps.integer_clips import move_integer_clips
from trencadis_compiler.importer.steps.opset import raise_opset
from trencadis_compiler.importer.steps.order import (
    check_domains,
    check_names,
    declare_domains,
    sort_nodes,
)
from trencadis_compiler.importer.steps.qonnx import lower_channels_last, lower_qonnx_operators
from trencadis_compiler.importer.steps.qoperators import write_out_qoperators
from trencadis_compiler.importer.steps.resolve_shapes import resolve_shapes
from trencadis_compiler.importer.steps.shapes import infer_shapes
from trencadis_compiler.importer.steps.weights import (
    centre_weights,
    move_layout_to_integers,
    quantise_constants,
)

__all__ = ["STEPS", "StandardModel", "load_standard", "standard_form"]

NO_SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType({})

Step = Callable[[Draft], None]


@dataclass(frozen=True)
class StandardModel:
    """A model in standard form.

    Attributes
    ----------
    model : ModelProto
        The model, all data inline; not to be changed.
    path : Path
        The file it was read from.
    sha256 : str
        Digest of what was read: the file, followed by its external data.
    notes : tuple of str
        What was done to the model, where a user may want to know.
    """

    model: onnx.ModelProto
    path: Path
    sha256: str
    notes: tuple[str, ...]


STEPS: tuple[Step, ...] = (
    check_sizes_known,
    check_types,
    check_quantisers,
    raise_opset,
    lower_channels_last,
    fold_constants,
    lower_qonnx_operators,
    write_out_qoperators,
    resolve_shapes,
    fold_constants,
    check_memory,
    check_numbers,
    check_windows,
    quantise_constants,
    move_layout_to_integers,
    centre_weights,
    flatten_biases,
    move_integer_clips,
    check_domains,
)
"""The way to the standard form, after names and order are right. Each step keeps the function."""


def load_standard(
    path: Path, *, input_shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES
) -> StandardModel:
    """Read an ONNX file and bring it to standard form.

    Parameters
    ----------
    path : Path
        The file; data in other files is read from below its folder.
    input_shapes : mapping of str to tuple of int
        Whole shapes of inputs whose sizes the model leaves open.

    Raises
    ------
    CompileError
        If the file cannot be read, or is not a valid model. One line that begins with the path.
    """
    model, sha256 = read_model(path)
    return standard_form(model, path, sha256, input_shapes=input_shapes)


def standard_form(
    model: onnx.ModelProto,
    path: Path,
    sha256: str,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES,
) -> StandardModel:
    """Bring a model that was read to standard form; it is changed in place.

    Raises
    ------
    CompileError
        If it is not a valid model.
    """
    draft = Draft(model, path)
    try:
        inline_functions(draft)
        declare_domains(draft)
        check_names(draft)
        sort_nodes(draft)
        constants_to_initialisers(draft)
        bind_input_shapes(draft, input_shapes)
        for step in STEPS:
            step(draft)
        make_outputs(draft)
        draft.drop_unread()
        infer_shapes(draft)
        check_memory(draft)
        check_ends(draft)
    except (CompileError, MemoryError):
        raise
    except Exception as error:
        # Attributes of a wrong type, missing inputs: a file may have anything.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise draft.refusal(
            f"the ONNX graph is inconsistent ({reason}); export it again"
        ) from error
    return StandardModel(model, path, sha256, tuple(draft.notes))
