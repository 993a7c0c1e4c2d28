# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
"""Weights of a traced network in eight bits."""

from collections.abc import Sequence
from pathlib import Path

from wissel.errors import ModelError


def quantise(traced: Path, path: Path, *, only: Sequence[str] | None = None, spared: Sequence[str] = ()) -> None:
    """Writes the network at `traced` with int8 weights to `path`; of the operators `only` these, if given.

    Nodes whose names are `spared` keep their weights.
    """
    try:
        import onnx  # noqa: PLC0415 - serving needs neither
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(f"the encoder cannot be exported without {error.name}") from error
    quantize_dynamic(
        traced,
        path,
        # One scale for each column of a weight instead of one for the whole: cosine with the original 0.99, not 0.96.
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Seven bits for weights: with eight, sums overflow on processors without VNNI. It costs 0.001 of cosine.
        reduce_range=True,
        op_types_to_quantize=only,
        nodes_to_exclude=list(spared),
        # Fused operators are not ONNX's own, so the type of what they put out is not inferred.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def narrowing(traced: Path) -> tuple[str, ...]:
    """The nodes that multiply by a weight with more rows than columns: a transformer's second feed-forward products.

    What comes into them has a few values far beyond all others, so that one scale for all leaves little of the rest.
    """
    try:
        import onnx  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ModelError(f"the encoder cannot be exported without {error.name}") from error
    graph = onnx.load(traced).graph
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    weights = ((node.name, shapes.get(node.input[1], ())) for node in graph.node if node.op_type == "MatMul")
    return tuple(name for name, shape in weights if len(shape) == 2 and shape[0] > shape[1])
