"""`tensorflow.python.ipu`: the modules of `tensorflow_ipu` under the name that existing scripts import."""

import sys

import tensorflow_ipu

tensorflow_ipu.register_alias(__name__)
sys.modules[__name__] = tensorflow_ipu
