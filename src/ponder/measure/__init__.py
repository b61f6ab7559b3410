"""Floor 2: statistics and measurements that reports are made of."""
