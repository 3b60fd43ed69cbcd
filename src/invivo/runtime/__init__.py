"""Load, attach, poll, decode, detach."""
