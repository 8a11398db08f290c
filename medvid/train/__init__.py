"""Training and prediction: losses, optimizers, the loop, checkpoints and run folders.

Models, loaders and options come in as arguments; nothing here knows one of them by name.
"""
