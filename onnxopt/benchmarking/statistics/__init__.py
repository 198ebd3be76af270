"""From samples to intervals and verdicts, and how many samples are wanted."""
