"""What is known of attention, and of the architectures that scoring and training are proven on."""
