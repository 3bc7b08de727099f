"""What a token is, in both directions, one kind a file."""
