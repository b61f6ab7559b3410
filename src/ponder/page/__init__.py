"""The page on which people meet a model, for a server and for a browser alone."""
