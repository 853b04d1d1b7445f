"""Making an agent's boxes from their configurations and stored weights."""
