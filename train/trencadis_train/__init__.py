"""Training of sparse networks: complementary masks, k-WTA, quantisation, export.

Importing the package itself needs neither PyTorch nor ONNX; modules that do are imported by name.
"""

__all__: list[str] = []
