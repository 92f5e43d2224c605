"""Operators of ONNX in float64, by family."""
