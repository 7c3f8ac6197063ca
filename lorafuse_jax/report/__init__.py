"""What people see: tables, figures, one HTML page."""
