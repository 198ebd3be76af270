"""The execution providers: which work here, with which options, and who ran what."""
