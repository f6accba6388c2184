"""Exchange between strands, interventions on the exchange, and orientation."""
