"""KFP pipelines made of components, their compiled form, and the ways to run them."""
