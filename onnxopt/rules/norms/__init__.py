"""Rules that recognise normalisations."""
