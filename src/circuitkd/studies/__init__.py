"""Studies: pairs x tasks x analyses in a YAML file, run as resumable jobs, read as tables."""
