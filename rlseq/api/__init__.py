"""What the commands do, as functions: arguments are checked first, heavy imports come after."""
