"""What the machine is: processor, memory, devices."""
