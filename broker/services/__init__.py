"""What a user or Slurm may ask for. One path to each deed: the API, the CLI and the Slurm intents all come here."""
