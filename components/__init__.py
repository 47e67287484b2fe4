"""KFP components: each hands its parameters and artifact paths to one function of `serinus.wiring.steps`.

Invariant: a component's source stands alone (KFP copies it without its module), so imports stand inside the body and no
annotation is postponed.
"""
