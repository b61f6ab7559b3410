"""Parts of the engine that asks a model over HTTP: what is sent, how it fails, what comes back, what it cost."""
