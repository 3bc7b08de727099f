"""Text: reading parallel corpora, vocabularies, outputs that are text, and a parallel corpus made from CLDR."""
