"""The one image of all components, and the decorator that builds them for it.

Invariant: nothing is installed at run time; the image holds the package, its lock and the project.
"""

import functools
import os

from kfp import dsl

# A digest or a commit's tag: the image is part of KFP's cache key as a string.
IMAGE = os.environ.get("SERINUS_PIPELINE_IMAGE", "serinus/pipeline:dev")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
