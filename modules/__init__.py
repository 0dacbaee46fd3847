"""Programs, what users write: signatures, predictions, formats, modules. Knows no optimizer."""
