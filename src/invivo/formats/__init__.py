"""Bytes to dataclasses; no system calls."""
