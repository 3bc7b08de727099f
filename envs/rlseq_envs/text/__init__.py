"""Text: reading parallel corpora, vocabularies, and a parallel corpus made from CLDR."""
