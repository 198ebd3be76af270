"""Makes models smaller without training: takes out what matters least, refits what is left."""
