"""The benchmark's rows, one module a topic; importing a module registers its rows, in the order of the table."""

from bench_rows import decode, framework, pointer, update

__all__ = ["decode", "framework", "pointer", "update"]
