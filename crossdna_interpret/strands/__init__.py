"""What crosses between the strands: maps, interventions, the effect of mutations on it, and orientation."""
