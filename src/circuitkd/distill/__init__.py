"""Circuit distillation: train a student's circuit towards its teacher's, and nothing else."""
