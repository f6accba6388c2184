"""Exchange between strands, interventions on it, and orientation."""
