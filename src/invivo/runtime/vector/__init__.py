"""Many records at once, with numpy: imported when records come in large numbers."""
