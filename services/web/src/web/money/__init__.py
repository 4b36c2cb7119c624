"""What the page *Money* shows, and the form of a tariff."""
