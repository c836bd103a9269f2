"""Published checkpoints as students: what each family's files look like, and how their weights are called here."""
