"""Kernels: the processes in which notebooks run, and how they start fast."""
