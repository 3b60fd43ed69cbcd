"""User stacks that programs walk by tables: the tables, and what each process has mapped."""
