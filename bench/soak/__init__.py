"""The traffic of a business for long, at 70 % of the maximum, while processes are killed."""
