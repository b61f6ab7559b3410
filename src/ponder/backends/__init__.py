"""Floor 5: where a run happens."""
