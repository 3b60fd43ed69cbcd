"""Commands about stacks: recording them, and drawing them."""
