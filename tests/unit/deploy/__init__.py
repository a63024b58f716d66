"""What other programs get from us."""
