"""What a server is loaded with: requests built ahead, and a compiled generator that sends them."""
