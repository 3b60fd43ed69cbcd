"""The intermediate representation: no language, no kernel."""
