"""Compare the base and an aligned model: rollouts, statistics, drift, report."""
