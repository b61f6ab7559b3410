"""What the folder of a model in the browser is made of."""
