"""What the pages of devices show."""
