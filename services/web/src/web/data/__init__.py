"""What the page *Data* does: imports, days typed by hand, backups."""
