"""Functions that a model brings along, written out where they are called."""

import onnx
import onnx.inliner

from trencadis_compiler.importer.reading.draft import Draft

__all__ = ["inline_functions"]


def inline_functions(draft: Draft) -> None:
    """Replace calls of the model's own functions by their nodes; tensors keep their names.

    Raises
    ------
    CompileError
        If the functions cannot be written out, as those that call themselves.
    """
    if not draft.model.functions:
        return
    model = draft.light()
    try:
        inlined = onnx.inliner.inline_local_functions(model)
    except Exception as error:  # the package's errors have no common base
        reason = " ".join(str(error).split())[:120]
        raise draft.refusal(
            f"the model's own functions cannot be written out ({reason}); export it without"
        ) from error
    del draft.model.functions[:]
    draft.set_nodes(inlined.graph.node)
    del draft.model.opset_import[:]
    draft.model.opset_import.extend(inlined.opset_import)
