"""The steps of the training pipeline, one function a component.

Invariant: a step reads its declared inputs and the systems of the profile, and writes its declared outputs and one
record in the journal; files hand over from step to step inside the artifact folders.
"""
