"""What a source is to the network, one network a file."""
