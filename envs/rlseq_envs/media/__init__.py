"""Pictures that are made."""
