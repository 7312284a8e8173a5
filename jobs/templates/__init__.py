"""Templates of the report and of the job file."""
