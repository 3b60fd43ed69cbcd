"""Numbers of Linux on x86-64 and what they are called: tables, written by docs/tables.py from the system's headers."""
