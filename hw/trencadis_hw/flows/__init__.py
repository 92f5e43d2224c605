"""From a board and a configuration to a bitstream.

These flows sit above the boards (they need the kernel's Verilog and `abi`) and below everything
else: a board is data, and what a family of boards needs is one module here that turns board and
configuration into a `BuildPlan`: files as text, and the steps that tools take with them.
"""
