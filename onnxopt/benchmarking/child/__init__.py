"""What runs in the processes that measure: nothing heavy is imported here."""
