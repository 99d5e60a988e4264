"""AutoFlow's tests."""
