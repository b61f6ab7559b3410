"""What the exporters for phones and small machines share: the checks of a model, and the tools that are called."""
