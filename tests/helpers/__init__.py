"""What several test files share, one thing a file."""
