# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
"""Weights of a traced network in eight bits."""

from collections.abc import Sequence
from pathlib import Path

from wissel.errors import ModelError


def quantise(traced: Path, path: Path, *, only: Sequence[str] | None = None) -> None:
    """Writes the network at `traced` with int8 weights to `path`; of the operators `only` these, if given."""
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
        # Fused operators are not ONNX's own, so the type of what they put out is not inferred.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
