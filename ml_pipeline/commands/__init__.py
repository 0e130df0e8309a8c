"""One file a typed word: flags in, rooms called, JSON or tables out."""
