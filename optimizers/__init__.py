"""Programs in, better programs out: evaluation, finetuning, the gate. Nothing inside the package imports it."""
