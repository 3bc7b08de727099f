"""The experiment's configuration: its schema, loading, and the errors it is refused with."""
