"""What was done: records, the durable log, its proofs and its export."""
