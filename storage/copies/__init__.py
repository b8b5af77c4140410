"""What finding copies across nodes keeps: all of it is made from the logs."""
