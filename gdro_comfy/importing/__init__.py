"""Turn images made elsewhere into a rollout."""
