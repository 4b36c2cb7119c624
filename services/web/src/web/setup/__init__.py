"""What *Setup* finds, remembers and writes."""
