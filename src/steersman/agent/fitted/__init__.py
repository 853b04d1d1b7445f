"""What was fitted to an agent after training: kept with it, stored in its run, sealed."""
