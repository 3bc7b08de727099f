"""Pictures: made, and read from files."""
