"""What is particular to the bpftrace language, as text: attach points, config keys, where C ends."""
