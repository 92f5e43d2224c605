"""Flows: from a board and a configuration to a bitstream.

These flows sit above the boards (they need the kernel's Verilog and its registers) and below
everything else: a board is data, and what a flow needs is one module here that turns a board into a
`BuildPlan`: files as text, and the steps that tools take with them.
"""
