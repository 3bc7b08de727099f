"""How a sequence is remembered and what it attends to, one network a file."""
