"""Code that all rooms share: processes, progress, captured output, schemas of files, and typed JSON."""
