"""Source text to typed tree to intermediate representation."""
