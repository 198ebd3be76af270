"""Reports as text: for the terminal, as JSON, as Markdown. Nothing is computed here."""
