"""The only package that makes system calls."""
