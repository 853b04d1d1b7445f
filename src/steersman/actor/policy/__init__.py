"""Mode 1: acting without imagining. Policies distilled from plans, and manoeuvres that are given."""
