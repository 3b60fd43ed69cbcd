"""Profiles: recorded by programs that are written here in the language, or read from files."""
