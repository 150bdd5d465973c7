"""What every room uses: processes, progress and captured output."""
