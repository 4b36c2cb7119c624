"""Programs that each poll the same emulator in their own way and print what it cost."""
