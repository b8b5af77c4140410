"""What a contract agrees as a whole: terms that act after its lines, as lines of their own."""
