"""The simulated house: one deterministic world that every emulator shows a part of."""
