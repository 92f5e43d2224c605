"""A Verilated kernel behind XRT's hardware emulation."""
