"""Masks and how kernels are assigned to complementary sets."""
