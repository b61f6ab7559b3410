"""What each kind of stage would use up, computed from shapes and, where it may be tried out, measured."""
