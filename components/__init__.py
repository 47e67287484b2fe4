"""KFP components: each hands its parameters and artifact paths to one function of `serinus.wiring.steps`.

Invariant: a component's source stands alone (KFP copies it without its module), so imports stand inside the body and no
annotation is postponed. An input artifact that may be missing is `name: dsl.Input[...] = None`, never `Optional[...]`:
a backend's driver names no class for an artifact, and KFP's executor would call the annotation as it stands.
"""
