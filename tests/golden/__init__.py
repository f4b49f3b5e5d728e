"""What the version of 29 November 2026 computed and wrote, kept as hashes, numbers and files. `golden.make` records."""
