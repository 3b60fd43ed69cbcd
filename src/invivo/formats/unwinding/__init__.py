"""Tables for unwinding: for each address of a file, how the frame of the caller is found."""
