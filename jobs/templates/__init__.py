"""Files that commands write out: the job file and the report page."""
