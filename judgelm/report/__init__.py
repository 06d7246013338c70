"""Numbers -> text, pictures and pages."""
