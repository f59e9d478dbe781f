"""What comes out: records, reports, pictures, warnings, the folder of a run."""
