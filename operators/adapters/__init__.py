"""What a job adds to its checkpoint: low-rank changes, learned words, source control, image prompts."""
